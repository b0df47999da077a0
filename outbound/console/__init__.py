"""What every page of the console shares: admin base class, wording, formatting, navigation and charts."""
