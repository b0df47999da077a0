"""The names of the demo's customers and companies."""
# ruff: noqa: SIM905, RUF001 - words read best as words, and people are called so

FIRST_NAMES = """
Ada Aiko Amara Ana Anders Anya Arjun Asha Astrid Ben Bianca Bruno Camille Carlos Chen Chloé Clara Daniel Deepa Diego
Elif Emeka Emma Erik Eva Farah Fatima Felix Femi Freya Gabriel Giulia Grace Hana Hassan Hugo Ines Ivan Jakub Jamal
Joana Jonas Julia Kaito Karim Katya Kofi Lars Laura Leila Lena Liam Lucas Lucía Magnus Maria Marek Maya Mei Milan Mina
Nadia Nia Niamh Nils Noor Oisín Olga Omar Oscar Paula Pedro Petra Priya Rafael Rania Ravi Rosa Ruth Sami Sara Sean Selin
Sofia Sven Tariq Théo Thomas Tove Uma Valentina Viktor Wanjiru Yara Yusuf Zeynep Zoë
""".split()
LAST_NAMES = """
Abebe Adeyemi Almeida Andersson Aydın Bakker Banerjee Becker Bianchi Byrne Castillo Chen Costa Cruz Dahl Das Diallo
Dubois Eriksson Fernández Fischer Flores García Haddad Hansen Herrera Hoffmann Horváth Ito Ivanova Jansen Jensen Kamau
Kaur Keller Khan Kim Kowalski Kumar Larsen Laurent Lefèvre Li Lindqvist Lopez Marino Martin Mbeki Mehta Mendes Meyer
Moreau Moretti Müller Murphy Nakamura Ndiaye Nguyen Nielsen Novák Nowak O'Brien Okafor Olsen Osei Park Patel Pereira
Petrov Rahman Ramos Rossi Ryan Santos Sato Schmidt Silva Singh Smith Sokolov Suzuki Tanaka Tóth Tran Vargas Virtanen
Vogel Walsh Wang Weber Williams Wójcik Wright Yamamoto Yılmaz Zhang Ziegler
""".split()
COMPANY_FIRST = """
Amber Anchor Arbor Atlas Birch Blue Bright Canyon Cedar Clear Cobalt Copper Coral Delta Ember Falcon Fjord Granite
Harbor Hazel Indigo Iron Juniper Lark Linden Lumen Maple Marble Meadow Meridian North Oak Onyx Orchard Pine Quartz River
Saffron Silver Solar Spruce Summit Terra Tidal Umber Valley Willow
""".split()
COMPANY_SECOND = """
Analytics Bakery Books Clinic Cloud Design Energy Foods Freight Games Health Labs Learning Logistics Media Motors Music
Outdoors Partners Robotics Software Studio Supply Systems Textiles Travel Works
""".split()
INDUSTRIES = """
Education Energy Finance Food Health Logistics Manufacturing Media Retail Software Travel
""".split()
# Country, city, time zone, language.
PLACES = (
    ("Ireland", "Dublin", "Europe/Dublin", "en"),
    ("United Kingdom", "London", "Europe/London", "en"),
    ("Germany", "Berlin", "Europe/Berlin", "de"),
    ("France", "Lyon", "Europe/Paris", "fr"),
    ("Spain", "Sevilla", "Europe/Madrid", "es"),
    ("Sweden", "Göteborg", "Europe/Stockholm", "sv"),
    ("Poland", "Kraków", "Europe/Warsaw", "pl"),
    ("Türkiye", "İzmir", "Europe/Istanbul", "tr"),
    ("Nigeria", "Lagos", "Africa/Lagos", "en"),
    ("Kenya", "Nairobi", "Africa/Nairobi", "en"),
    ("India", "Pune", "Asia/Kolkata", "en"),
    ("Nepal", "Kathmandu", "Asia/Kathmandu", "ne"),
    ("Japan", "Osaka", "Asia/Tokyo", "ja"),
    ("Australia", "Adelaide", "Australia/Adelaide", "en"),
    ("New Zealand", "Auckland", "Pacific/Auckland", "en"),
    ("Brazil", "Recife", "America/Recife", "pt"),
    ("Mexico", "Puebla", "America/Mexico_City", "es"),
    ("Canada", "Montréal", "America/Toronto", "fr"),
    ("United States", "Austin", "America/Chicago", "en"),
    ("United States", "Portland", "America/Los_Angeles", "en"),
)
BROWSERS = (("Chrome", "Windows"), ("Chrome", "macOS"), ("Safari", "macOS"), ("Firefox", "Linux"), ("Safari", "iOS"))
