import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from messaging import content
from messaging.content import ContentError, RenderTarget
from messaging.content.liquid import HTML_LIQUID, TEXT_LIQUID
from messaging.content.parser import parse_template, render_template
from messaging.content.template import HTML_COMPILERS, SlotTemplate, compile_to_slots
from messaging.content.variables import nest_values
from tests.support.examples import examples

KNOWN = {"custom_attributes": ["plan", "Last order", "seats", "link"], "company_attributes": ["seats"]}


def problems(text):
    return [str(problem) for problem in content.check_text(text, **KNOWN)]


def compiled(body, subject="", target=RenderTarget.FRAGMENT, **how):
    return content.compile_version(subject, body, target=target, **how)


def html(body, **filled):
    return compiled(body).render(dotted(filled)).html


def text(body, **filled):
    return compiled(body, target=RenderTarget.TEXT).render(dotted(filled)).text


def subject(line, **filled):
    return compiled("", subject=line).render(dotted(filled)).subject


def dotted(filled):
    return {name.replace("__", "."): value for name, value in filled.items()}


class Seen(HTMLParser):
    """Collects the elements and attributes that a browser would see."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.attributes = set(), []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes += attrs


RUNS = {"script", "style", "svg", "math", "iframe", "object", "embed", "form", "meta", "link", "base"}


def assert_nothing_runs(source):
    seen = Seen(source)

    assert not seen.elements & RUNS, source
    for name, value in seen.attributes:
        assert not name.startswith("on"), source
        if name in {"href", "src"}:
            # Browsers ignore control characters inside an address.
            assert not re.match(r"(javascript|data|vbscript):", re.sub(r"[\s\x00-\x1f]", "", value).lower()), source


# check_text


@pytest.mark.parametrize("name", content.VARIABLES)
def test_every_standard_variable_is_allowed(name):
    assert problems(f"{{{{ {name} }}}}") == []


@pytest.mark.parametrize(
    "good",
    [
        "Plain text, 5 < 6 & {braces} } too",
        'Hi {{ first_name | default: "there" }}',
        'Hi {{first_name | fallback:"there"}}',
        "{{ custom_attributes.plan }} {{ custom_attributes['Last order'] }}",
        "{{ company.custom_attributes.seats | plus: 1 }}",
        "{% if custom_attributes.seats &gt; 5 %}many{% else %}few{% endif %}",
        "{% assign half = custom_attributes.seats | divided_by: 2 %}{{ half }}",
        "{% for n in (1..3) %}{{ n }}{{ forloop.index }}{% endfor %}",
        "{% for word in name %}{{ word }}{% endfor %}",
        "{% capture hello %}Hi {{ name }}{% endcapture %}{{ hello }}",
        "{% case company.plan %}{% when 'pro' %}a{% else %}b{% endcase %}",
        "{% comment %} {{ nonsense }} {% endcomment %}{% raw %}{{ nonsense }}{% endraw %}{% # a note %}",
        "{{ signed_up_at | date }} {{ signed_up_at | date: '%A' }}",
        "{{ unsubscribe_url }}",
        "{{\xa0first_name&nbsp;|&nbsp;default:&nbsp;&quot;there&quot; }}",
    ],
)
def test_valid_text_has_no_problems(good):
    assert problems(good) == []


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("{{ fist_name }}", 'Line 1: There is no variable "fist_name". Did you mean "first_name"?'),
        ("ü\n\n{{ plan }}", 'Line 3: There is no variable "plan". Did you mean "custom_attributes.plan"?'),
        ("{{ company }}", 'Line 1: There is no variable "company". Did you mean "company.name"?'),
        ("{{ custom_attributes.Plan2 }}", 'Line 1: There is no variable "custom_attributes.Plan2".'),
        ("{{ now }}", 'Line 1: There is no variable "now".'),
        ("{{ tracking.click }}", 'Line 1: There is no variable "tracking.click".'),
        ("{{ name.size }}", 'Line 1: There is no variable "name.size".'),
        ("\n{{ name | shout }}", 'Line 2: There is no filter "shout".'),
        ("{{ name | safe }}", 'Line 1: There is no filter "safe".'),
        ("{% if name | shout %}x{% endif %}", "Line 1"),
        ("Hi\n{{ name", 'Line 2: A "{{" is never closed by "}}".'),
        ("Hi\n{% if name", 'Line 2: A "{%" is never closed by "%}".'),
        ("a\n{% if name %}\nb\n{% if email %}x{% endif %}", 'Line 2: The tag "if" is never closed by "endif".'),
        ("\n{% endif %}", 'Line 2: The tag "endif" does not belong to one that is open here.'),
        ("{{ name }}\n{% if name > %}x{% endif %}", "Line 2: A variable or value is missing."),
        ("\n\n{% if %}x{% endif %}", "Line 3: Something is missing after the tag's name."),
        ("{{ name | }}", 'Line 1: A filter is missing after "|".'),
        ("{{ 'name }}", "Line 1: A quotation mark is never closed."),
        ("{{ name | default: “there” }}", "Line 1: Put text in straight quotes"),
        ("{{ first name }}", "Line 1: Invalid Liquid: expected end of expression, found word."),
        ("\n{% break %}", 'Line 2: "break" and "continue" only work inside "for".'),
        ("{{ custom_attributes[email] }}", "cannot be looked up by the value of another"),
        ("{% for n in (1..custom_attributes.seats) %}x{% endfor %}", "A range is written with two whole numbers"),
        ("\n{{ 1 | divided_by: custom_attributes.seats }}", "Line 2"),
        ("{{ signed_up_at | date: '%9999999Y' }}", "A date cannot be written as"),
        ("{% assign company = 1 %}", '"company" is already a variable of every message'),
        ("{% for name in (1..2) %}x{% endfor %}", '"name" is already a variable of every message'),
    ],
)
def test_problem_has_a_readable_text_and_its_line(bad, expected):
    found = problems(bad)

    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    "tag", ["include 'x'", "render 'x'", "liquid", "echo name", "tablerow n in (1..2)", "increment n"]
)
def test_tags_that_access_other_templates_or_have_no_use_do_not_exist(tag):
    assert problems(f"{{% {tag} %}}") == [f'Line 1: There is no tag "{tag.split()[0]}".']


def test_all_problems_are_listed_in_order_of_their_lines():
    assert [p[:6] for p in problems("{{ a1 }}\n{{ name | b2 }}\n{% assign os = 1 %}\n{{ d4 }}")] == [
        "Line 1",
        "Line 2",
        "Line 3",
        "Line 4",
    ]


def test_company_use_cannot_be_hidden_by_a_variable_of_the_same_name():
    assert problems("{% if false %}{% assign company = 1 %}{% endif %}{{ company.name }}") != []


# variables_in


def test_variables_in_a_text_are_returned_by_dotted_name():
    used = content.variables_in(
        "{{ first_name }}{% if company.plan == 'x' %}{{ company.custom_attributes.seats }}{% endif %}"
        "{% assign mine = custom_attributes['Last order'] %}{{ mine }}{% for n in (1..2) %}{{ n }}{% endfor %}"
    )

    assert used == {"first_name", "company.plan", "company.custom_attributes.seats", "custom_attributes.Last order"}


def test_company_is_used_if_any_text_uses_a_company_variable():
    assert content.uses_company("Hi", "{{ first_name }} {% if company.plan %}x{% endif %}")
    assert content.uses_company("{{ company.custom_attributes.seats }}")
    assert not content.uses_company("company.name", "{{ first_name }}", "{{ custom_attributes.company }}")


def test_variables_in_invalid_text_raise_an_error():
    with pytest.raises(ContentError, match="never closed"):
        content.variables_in("{{ name")


# variable_values


def test_values_are_limited_to_used_and_known_variables_and_are_json():
    facts = {
        "first_name": "Ann",
        "email": "ann@example.com",
        "signed_up_at": datetime(2024, 5, 3, 10, tzinfo=UTC),
        "phone": None,
        "custom_attributes": {"Last order": Decimal("12.50"), "seats": 0, "vip": False, "note": ""},
        "company": {"name": "Acme", "monthly_spend": Decimal("49.00"), "custom_attributes": {"seats": 3.0}},
    }
    used = [
        *("first_name", "signed_up_at", "phone", "city", "custom_attributes.Last order", "custom_attributes.seats"),
        *("custom_attributes.vip", "custom_attributes.note", "custom_attributes.none", "company.monthly_spend"),
        *("company.custom_attributes.seats", "unsubscribe_url"),
    ]

    filled = content.variable_values(used, facts)

    assert json.loads(json.dumps(filled)) == filled
    assert filled == {
        "first_name": "Ann",
        "signed_up_at": "2024-05-03T10:00:00+00:00",
        "custom_attributes.Last order": 12.5,
        "custom_attributes.seats": 0,
        "custom_attributes.vip": False,
        "custom_attributes.note": "",
        "company.monthly_spend": 49,
        "company.custom_attributes.seats": 3,
    }
    assert type(filled["custom_attributes.seats"]) is int
    assert type(filled["company.custom_attributes.seats"]) is int


def test_customer_without_a_company_has_no_company_values():
    assert content.variable_values(["company.name", "company.custom_attributes.seats"], {"company": None}) == {}


def test_missing_first_and_last_name_are_derived_from_the_name():
    names = ["first_name", "last_name"]

    assert content.variable_values(names, {"name": "Ann Marie Lee"}) == {"first_name": "Ann", "last_name": "Marie Lee"}
    assert content.variable_values(names, {"name": "Ann", "first_name": None}) == {"first_name": "Ann"}
    assert content.variable_values(names, {"name": "Ann Lee", "first_name": "Annie"})["first_name"] == "Annie"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("Infinity")])
def test_number_that_json_cannot_represent_is_unknown(value):
    assert content.variable_values(["custom_attributes.x"], {"custom_attributes": {"x": value}}) == {}


def test_number_too_long_for_a_float_keeps_all_digits():
    facts = {"custom_attributes": {"x": Decimal("0.12345678901234567890123")}}

    assert content.variable_values(["custom_attributes.x"], facts) == {
        "custom_attributes.x": "0.12345678901234567890123"
    }


# rendering


def test_value_is_escaped_in_html_but_not_in_text_and_subject():
    name = "O'Brien <b> & “Co” ☃"

    assert html("<p>{{ name }}</p>", name=name) == "<p>O&#39;Brien &lt;b&gt; &amp; “Co” ☃</p>"
    assert text("<p>{{ name }}</p>", name=name) == name
    assert subject("{{ name }}", name=name) == name


def test_value_cannot_break_out_of_an_attribute():
    shown = html('<img src="https://x.example/a.png" alt="{{ name }}">', name='"><script>alert(1)</script>')

    assert shown == ('<img src="https://x.example/a.png" alt="&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;">')


@pytest.mark.parametrize(
    ("value", "plain", "with_default"),
    [
        ("Ann", "Ann", "Ann"),
        (None, "", "there"),
        ("", "", "there"),
        (False, "false", "there"),  # as in Liquid, the default also replaces false
        (True, "true", "true"),
        (0, "0", "0"),
        (0.5, "0.5", "0.5"),
        (" ", " ", " "),
    ],
)
@pytest.mark.parametrize("filter_name", ["default", "fallback"])
@pytest.mark.parametrize("way", ["", "{% if true %}{% endif %}"], ids=["by slots", "by Liquid"])
def test_unknown_value_renders_as_its_default_or_empty(value, plain, with_default, filter_name, way):
    source = f'[{{{{ custom_attributes.x }}}}][{{{{custom_attributes.x|{filter_name}:"there"}}}}]{way}'

    assert html(source, custom_attributes__x=value) == f"[{plain}][{with_default}]"
    assert html(source) == "[][there]"


def test_default_with_allow_false_keeps_false():
    source = '{{ custom_attributes.x | default: "there", allow_false: true }}'

    assert html(source, custom_attributes__x=False) == "false"


def test_unknown_company_size_is_not_the_number_of_its_fields():
    source = "{% if true %}{{ company.name }}:{{ company.size }}{% endif %}"

    assert html(source, company__name="Acme") == "Acme:"


@pytest.mark.parametrize("way", ["", "{% if true %}{% endif %}"], ids=["by slots", "by Liquid"])
def test_subject_is_always_one_line(way):
    line = subject("Hi\r\nBcc: a@example.com {{ name }}\t!" + way, name="Ann\r\nBcc: b@example.com\u2028\x0b\x00x")

    assert line == "Hi Bcc: a@example.com Ann Bcc: b@example.com x !"
    assert len(line.splitlines()) == 1


def test_copy_depends_only_on_the_version_and_its_values():
    body = "{{ first_name | default: 'you' }} {% if true %}{{ 'now' | date }}{{ now }}{{ today }}{% endif %}"

    assert text(body, first_name="Ann") == "Ann now"


def test_conditions_loops_and_filters_work():
    source = (
        "{% if custom_attributes.seats &gt; 5 %}many{% else %}few{% endif %} "
        "{% for n in (1..3) %}{{ n }}{% unless forloop.last %}, {% endunless %}{% endfor %} "
        "{{ name | upcase | truncate: 5 }} {{ signed_up_at | date: '%-d %b %Y' }} {{ name | split: ' ' | join: '-' }}"
    )

    assert text(source, custom_attributes__seats=7, name="Ann Lee", signed_up_at="2024-05-03T10:00:00+00:00") == (
        "many 1, 2, 3 AN... 3 May 2024 Ann-Lee"
    )


# rich text


@pytest.mark.parametrize(
    ("unsafe", "safe"),
    [
        ("<p onclick='x()'>a</p>", "<p>a</p>"),
        ("<script>alert(1)</script>a", "a"),
        ("<style>p { color: red }</style>a", "a"),
        ('<a href="javascript:alert(1)">a</a>', '<a rel="noopener noreferrer">a</a>'),
        ('<a href=" java&#10;script:alert(1)">a</a>', '<a rel="noopener noreferrer">a</a>'),
        ('<a href="data:text/html,x">a</a>', '<a rel="noopener noreferrer">a</a>'),
        ('<img src="data:image/svg+xml,x" onerror="x()">', "<img>"),
        ('<p style="color: red; position: fixed; background: url(x)">a</p>', '<p style="color:red">a</p>'),
        ('<p style="width: expression(alert(1)); color: red">a</p>', '<p style="color:red">a</p>'),
        ('<p style="background-color: URL(https://x.example)">a</p>', "<p>a</p>"),
        ('<p style="background: image-set(&quot;https://x.example&quot; 1x)">a</p>', "<p>a</p>"),
        ('<p style="background: u\\72l(https://x.example); color: red">a</p>', '<p style="color:red">a</p>'),
        ('<p style="color: var(--x); width: 50%">a</p>', '<p style="width:50%">a</p>'),
        ("a<!-- note -->b", "ab"),
        ("<iframe src='https://x.example'></iframe>a", "a"),
        ("<form><input name=a></form>a", "a"),
    ],
)
def test_html_that_could_run_or_break_out_is_removed(unsafe, safe):
    assert content.sanitise(unsafe) == safe


@pytest.mark.parametrize(
    "rich",
    [
        "<h1>A</h1><p>B <strong>c</strong> <em>d</em><br></p><blockquote>f</blockquote><pre><code>g</code></pre><hr>",
        '<ul><li>a</li></ul><ol start="3"><li>b</li></ol>',
        '<img src="https://x.example/a.png" alt="a" width="10" height="20">',
        '<a href="mailto:a@example.com" rel="noopener noreferrer">a</a>',
        '<table><tbody><tr><td colspan="2" style="color:red">a</td></tr></tbody></table>',
        '<p style="background:#0b5cad;color:rgb(255, 255, 255);width:calc(50% - 8px);text-align:center">a</p>',
        '<div style="display:inline-block;vertical-align:top;width:100%;max-width:264px;min-width:200px">a</div>',
        "<p>H<sub>2</sub>O <small>x<sup>2</sup></small></p>",
        '<figure style="margin:0"><img src="https://x.example/a.png"><figcaption>A</figcaption></figure>',
        'Hi {{ first_name | default: "there" }}',
        "{% if custom_attributes.seats &gt; 5 %}a{% endif %}",
        '<a href="{{ company.website | default: &quot;https://x.example&quot; }}" rel="noopener noreferrer">a</a>',
        '<a href="https://x.example/{{ user_id }}?a=1&amp;b={{ name | url_encode }}" rel="noopener noreferrer">a</a>',
        "<table>{% if name %}<tbody><tr><td>a</td></tr>{% endif %}</tbody></table>",
    ],
)
def test_allowed_html_keeps_its_liquid(rich):
    assert content.sanitise(rich) == rich


def test_liquid_escaped_by_an_editor_is_unescaped():
    written = "<p>{{ name |&nbsp;default: &quot;you &amp; me&quot; }}</p>"

    assert content.sanitise(written) == '<p>{{ name | default: "you &amp; me" }}</p>'
    assert text(written) == "you & me"


def test_liquid_in_a_style_or_outside_attribute_values_is_removed():
    assert content.sanitise('<p style="color: {{ name }}" {{ name }}>a</p>') == "<p>a</p>"
    assert content.sanitise("<{{ name }}>a</{{ name }}>") == "a"


pieces_of_html = st.lists(
    st.sampled_from(
        [
            *(
                "<p>",
                "</p>",
                "<b>",
                "</b>",
                "<table>",
                "<tr>",
                "<td>",
                "</table>",
                "<a href='",
                "'",
                '"',
                ">",
                "<",
                "&",
            ),
            *(
                "{{ name }}",
                "{{ name | default: 'x' }}",
                "{% if name %}",
                "{% endif %}",
                "{{",
                "}}",
                "&quot;",
                "lq0q0z",
            ),
            *(
                "<!--",
                "-->",
                "javascript:",
                "https://x.example/",
                "<script>",
                "</script>",
                "<img src=",
                "text",
                " ",
                "é",
            ),
            *("lq0&#113;7z", "<style>", "<svg>", "<math>", "<title>", "<p style='color:red;", "onerror=x"),
        ]
    ),
    max_size=14,
).map("".join)


@examples(100)
@given(pieces_of_html)
def test_sanitised_text_contains_no_script_after_repeated_saves(source):
    safe = content.sanitise(source)

    assert_nothing_runs(safe)
    assert_nothing_runs(content.sanitise(safe))


@examples(100)
@given(pieces_of_html, st.sampled_from(["javascript:alert(1)", "<script>x</script>", "' onx='", '" onx="', "x", ""]))
def test_rendered_text_contains_no_script(source, value):
    try:
        shown = html(source, name=value)
    except ContentError:
        return  # its Liquid is invalid

    assert_nothing_runs(shown)


# links


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("https://x.example/?a=1&b=2", "https://x.example/?a=1&amp;b=2"),
        ("HTTP://x.example", "HTTP://x.example"),
        ("www.acme.example/a", "https://www.acme.example/a"),
        ("mailto:a@example.com", "mailto:a@example.com"),
        ("javascript:alert(1)", "#"),
        (" JaVaScRiPt:alert(1)", "#"),
        ("java\nscript:alert(1)", "#"),
        ("\x01javascript:alert(1)", "#"),
        ("data:text/html,<script>", "#"),
        ("vbscript:x", "#"),
        ("", "#"),
        (None, "#"),
        (7, "#"),
    ],
)
def test_address_from_a_value_is_a_safe_link_or_removed(value, address):
    shown = html('<a href="{{ custom_attributes.link }}">a</a>', custom_attributes__link=value)

    assert shown == f'<a href="{address}" rel="noopener noreferrer">a</a>'


@pytest.mark.parametrize(
    "href",
    [
        "{{ custom_attributes.link }}",
        "{{ custom_attributes.a }}{{ custom_attributes.link }}",
        "{{ custom_attributes.link | downcase }}",
        "{{- custom_attributes.link | strip -}}",
        "{% if true %}{{ custom_attributes.link }}{% endif %}",
        "{% if true %}java{% endif %}script:alert(1)",
        "java{{ custom_attributes.script }}",
        "&#x6a;ava{{ custom_attributes.script }}",
        "{{ 'javascript:alert(1)' }}",
        "{{ custom_attributes.none | default: 'javascript:alert(1)' }}",
        "{{ custom_attributes.none }}javascript:alert(1)",
        "{{ 'java' }}{{ custom_attributes.script }}",
        "{% assign x = custom_attributes.link %}{{ x }}",
    ],
)
@pytest.mark.parametrize("element", ['<a href="%s">a</a>', '<img src="%s">', "<a href=%s>a</a>"])
def test_no_spelling_of_an_address_becomes_a_script(href, element):
    shown = html(
        element % href, custom_attributes__link="javascript:alert(1)", custom_attributes__script="script:alert(1)"
    )

    assert_nothing_runs(shown)


@pytest.mark.parametrize(
    "body",
    [
        '{{ "<script>alert(1)</script>" }}',
        '{{ name | default: "<img src=x onerror=alert(1)>" }}',
        "{% assign x = '<script>alert(1)</script>' %}{{ x }}",
        '{% capture x %}{{ custom_attributes.x }}{% endcapture %}{{ x | replace: "&lt;", "<" | replace: "&gt;", ">" }}',
        '{{ custom_attributes.x | newline_to_br | split: "&lt;" | join: "<" }}',
        '<p title="{{ name | default: \'" onmouseover="alert(1)\' }}">a</p>',
        "<p title='{{ custom_attributes.x }}'>a</p>",
    ],
)
def test_liquid_cannot_output_forbidden_html(body):
    assert_nothing_runs(html(body, custom_attributes__x="<script>alert(1)</script><img src=x onerror=alert(1)>"))


# parts of an email


def test_email_has_inlined_styles_and_intact_liquid():
    mail = compiled('<p>Hi {{ name | default: "you" }}</p>', subject="Hi", target=RenderTarget.EMAIL).render(
        {"name": "Ann"}
    )

    assert mail.html.startswith("<!doctype html>")
    assert '<p style="margin: 0 0 16px;">Hi Ann</p>' in mail.html
    assert mail.html.rstrip().endswith("</html>")


def test_email_rendered_by_liquid_is_a_full_document():
    mail = compiled("<p>{% if true %}{{ name | upcase }}{% endif %}</p>", target=RenderTarget.EMAIL).render(
        {"name": "Ann"}
    )

    assert mail.html.startswith("<!doctype html>")
    assert ">ANN</p>" in mail.html
    assert "margin" in mail.html.split("ANN")[0].rsplit("<p", 1)[1]


def test_text_part_matches_the_rich_text():
    body = (
        "<h1>Welcome,\n {{ name }}</h1><p>One<br>two  &amp; three</p><ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"
        '<ol start="3"><li>d</li><li>e</li></ol><p><a href="https://x.example/?a=1&amp;u={{ user_id }}">Here</a> or '
        '<a href="https://y.example">https://y.example</a> or <a href="mailto:a@example.com">a@example.com</a></p>'
        "<blockquote>f<br>g</blockquote><pre>h\n  i</pre><hr>"
        '<table><tr><td>j</td><td>k</td></tr></table><img src="https://x.example/l.png" alt="l">'
    )

    assert text(body, name="Ann", user_id="7") == (
        "Welcome, Ann\n\nOne\ntwo & three\n\n- a\n  - b\n- c\n\n3. d\n4. e\n\n"
        "Here (https://x.example/?a=1&u=7) or https://y.example or a@example.com\n\n"
        "> f\n> g\n\nh\n  i\n\n---\n\nj k\n\nl"
    )


def test_empty_value_leaves_no_extra_empty_lines():
    assert text("<p>a</p><p>{{ name }}</p><p>b</p>") == "a\n\nb"


def test_plain_text_is_converted_to_paragraphs():
    assert (
        content.paragraphs_html("Hi <you>\r\nthere\n\n\nBye {{ name }}\n")
        == "<p>Hi &lt;you&gt;<br>there</p><p>Bye {{ name }}</p>"
    )
    assert text(content.paragraphs_html("a < b\nc\n\nd")) == "a < b\nc\n\nd"


def test_tracked_email_has_redirect_links_and_their_destinations():
    version = compiled(
        '<a href="https://x.example/?u={{ user_id }}&amp;b=1">a</a><a href="{{ custom_attributes.link }}">b</a>'
        '<a href="mailto:a@example.com">c</a><a href="tel:+353">t</a><a href="#top">h</a><a href="https://y.example">y</a>'
        '<a href="https://x.example/?u={{ user_id }}&amp;b=1">again</a><a href="https://{{ company.website }}/">w</a>'
        '<a href="https://x.example{{ user_id }}/">s</a><a href="https://x.example:80@{{ user_id }}/">u</a>',
        target=RenderTarget.EMAIL,
        footer='<a href="{{ unsubscribe_url }}">d</a>',
        tracked=True,
    )
    filled = {
        "user_id": "7",
        "custom_attributes.link": "javascript:x",
        "company.website": "z.example",
        "unsubscribe_url": "https://us.example/u",
        content.TRACKING_CLICK: "https://us.example/c/TOKEN/",
        content.TRACKING_OPEN: "https://us.example/o/TOKEN.gif",
    }
    mail = version.render(filled)

    assert re.findall(r'href="([^"]*)"', mail.html) == [
        "https://us.example/c/TOKEN/0",
        "#",
        "mailto:a@example.com",
        "tel:+353",
        "#top",
        "https://us.example/c/TOKEN/1",
        "https://us.example/c/TOKEN/0",
        "https://z.example/",
        "https://x.example7/",
        "https://x.example:80@7/",
        "https://us.example/u",
    ]
    assert '<img src="https://us.example/o/TOKEN.gif" width="1" height="1" alt=""' in mail.html
    assert "a (https://x.example/?u=7&b=1)" in mail.text
    assert version.links == ("https://x.example/?u={{ user_id }}&b=1", "https://y.example")
    assert content.link_destination(version.links[0], filled) == "https://x.example/?u=7&b=1"


def test_known_links_keep_their_numbers():
    body = '<a href="https://new.example/">n</a><a href="https://old.example/">o</a>'

    version = compiled(
        body, target=RenderTarget.EMAIL, tracked=True, known_links=["https://gone.example/", "https://old.example/"]
    )

    assert version.links == ("https://gone.example/", "https://old.example/", "https://new.example/")
    html = version.render({content.TRACKING_CLICK: "/c/", content.TRACKING_OPEN: "/o.gif"}).html
    assert re.findall(r'href="([^"]*)"', html) == ["/c/2", "/c/1"]


@pytest.mark.parametrize("address", ["", "#", "javascript:alert(1)", "//x.example", "https://{{ name }}", "https:///x"])
def test_tracked_link_only_leads_to_the_host_written_by_staff(address):
    with pytest.raises(ContentError, match="not a web link"):
        content.link_destination(address, {"name": "evil.example"})


def test_every_render_target_has_an_html_compiler():
    assert set(HTML_COMPILERS) == set(RenderTarget)
    assert compiled("<p>a</p>", target=RenderTarget.TEXT).render({}).html == ""


def test_invalid_content_is_not_compiled():
    for wrong in ({"body": "{{ name", "subject": ""}, {"body": "", "subject": "{% if name %}"}):
        with pytest.raises(ContentError, match="never closed"):
            compiled(**wrong)


# slots compared with Liquid

names = st.sampled_from(["first_name", "company.name", "custom_attributes.plan", "company.custom_attributes.seats"])
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("javascript:x")
literal = st.text(st.characters(exclude_characters="{}%\x00", exclude_categories=["Cs"]))
defaults = st.text(st.characters(exclude_characters='{}%"\x00', exclude_categories=["Cs"]))
outputs = st.one_of(
    names.map(lambda name: f"{{{{ {name} }}}}"),
    st.builds(lambda n, d, f: f'{{{{{n}|{f}: "{d}"}}}}', names, defaults, st.sampled_from(["default", "fallback"])),
    st.builds(lambda n, d: f'{{{{- {n} | default: "{d}" | safe_link -}}}}', names, defaults),
    names.map(lambda name: f"{{{{ {name} | safe_link }}}}"),
)
sources = st.lists(literal | outputs, max_size=8).map("".join)


@examples(150)
@given(source=sources, filled=st.dictionaries(names, values), language=st.sampled_from([TEXT_LIQUID, HTML_LIQUID]))
@example("a\r\nb {{ first_name }}\r", {"first_name": "x\r\ny\r"}, HTML_LIQUID)
@example('{{ company.name | default: "a" }}', {"company.name": False}, HTML_LIQUID)
@example('{{ company.name | default: "it\'s <b>" }}', {}, HTML_LIQUID)
def test_slots_render_exactly_as_liquid_does(source, filled, language):
    template = parse_template(source, language)
    slots = compile_to_slots(template)

    if slots is None:
        # A default with HTML special characters is left to Liquid.
        assert language is HTML_LIQUID
        assert re.search(r"""\|[^}]*[<>&'][^}]*\}""", source)
    else:
        assert slots(filled) == render_template(template, nest_values(filled))


@pytest.mark.parametrize(
    "more",
    ["{{ name | upcase }}", "{% if name %}a{% endif %}", '{{ name | default: "a", allow_false: true }}', "{{ 'a' }}",
     '{{ name | default: "<b>" }}', '{{ name | default: "a" | default: "b" }}', "{{ name | default: email }}"],
)  # fmt: skip
def test_other_liquid_than_variables_and_defaults_is_rendered_by_liquid(more):
    assert compile_to_slots(parse_template(more, HTML_LIQUID)) is None


def test_common_email_uses_a_slot_template():
    version = compiled("<p>Hi {{ first_name | default: 'there' }}, {{ company.name }}</p>", target=RenderTarget.EMAIL)

    assert isinstance(version.html, SlotTemplate)


# hostile templates

BIG = 190_000


@pytest.mark.parametrize(
    "hostile",
    [
        "{{" * (BIG // 2),
        "{%" * (BIG // 2),
        "{%raw%}" * (BIG // 7),
        "{{ name" + " " * BIG + "}}",
        "{{ " + "a[" * 480 + "}}",
        "{% if name %}" * 200 + "{% endif %}" * 200,
        "{% for a in (1..1000) %}{% for b in (1..1000) %}{% endfor %}{% endfor %}",
        "{% for a in (1..1000) reversed %}{% for b in (1..1000) reversed %}x{% endfor %}{% endfor %}",
        "{% for a in (1..99999999999) reversed %}{% endfor %}",
        "{{ (1..99999999999) | join }}",
        "{% assign x = 'aaaaaaaaaa' %}" + "{% assign x = x | append: x %}" * 60,
        "{% assign x = 'a' %}{% for i in (1..900) %}{% assign x = x | append: x %}{% endfor %}",
        "{% for i in (1..900) %}{% capture x %}{{ x }}{{ x }}a{% endcapture %}{% endfor %}",
        "{{ '" + "a" * 300 + "' | replace: 'a', '" + "a" * 300 + "' | replace: 'a', '" + "a" * 200 + "' }}",
        "{% assign x = 9 %}{% for i in (1..900) %}{% assign x = x | times: x %}{% endfor %}{{ x }}",
        "{{ 5 | times: '9e999' }}",
        "{{ '1' | append: '" + "0" * 900 + "' | plus: 1 }}",
        "{{ name | truncate: 'x' }}",
        "x" * 200_001,
    ],
    ids=lambda hostile: hostile[:40],
)
def test_hostile_text_is_refused_quickly_with_a_reason(hostile):
    start = perf_counter()
    found = content.check_text(hostile, **KNOWN)

    assert perf_counter() - start < 3
    assert len(found) == 1
    assert found[0].reason.endswith(".")
    assert "Error" not in found[0].reason


@pytest.mark.parametrize(
    "hostile",
    [
        "<div>" * (BIG // 5),
        "<b title=1>" * 900,
        "<ul><li>" * 4000,
        "<" * BIG,
        "{% for a in (1..1000) %}" + "<p>" * 90 + "{% endfor %}",
    ],
    ids=["deep", "deep formatting", "deep lists", "brackets", "deep in a loop"],
)
def test_html_that_would_crash_the_css_inliner_is_refused(hostile):
    with pytest.raises(ContentError, match=r"HTML|deep|too long"):
        compiled(hostile, target=RenderTarget.EMAIL).render({})


def test_error_caused_by_one_customers_value_is_a_content_error():
    version = compiled("{{ 10 | divided_by: custom_attributes.seats }}", target=RenderTarget.TEXT)

    assert version.render({"custom_attributes.seats": 2}).text == "5"
    with pytest.raises(ContentError, match="divide by 0"):
        version.render({"custom_attributes.seats": 0})


def test_output_that_is_too_long_is_a_content_error():
    version = compiled("{{ name }}" * 1500)

    with pytest.raises(ContentError, match="output is too long"):
        version.render({"name": "x" * 1000})
    assert len(version.render({"name": "x" * 100}).html) == 150_000
