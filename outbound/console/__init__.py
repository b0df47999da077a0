"""The parts that all pages of the console share: admin base class, wording, formatting, navigation and charts."""
