"""Sign-in on django-allauth: login, invitations, passwords."""
