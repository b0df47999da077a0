"""The URLs of sign-in, below the console's. Allauth looks them up by these names."""

from allauth.account import views as account
from django.urls import URLPattern, URLResolver, path, re_path

from outbound.signin import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", views.LoginView.as_view(), name="account_login"),
    path("login/deactivated/", account.account_inactive, name="account_inactive"),
    path("password/forgotten/", views.ForgottenView.as_view(), name="account_reset_password"),
    re_path(
        r"^password/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>[^/]+)/$",
        views.ChoosePasswordView.as_view(),
        name="account_reset_password_from_key",
    ),
    path("invitation/<uidb64>/<key>/", views.AcceptInvitationView.as_view(), name="account_accept_invitation"),
    path("password_change/", account.password_change, name="account_change_password"),
    path("password_set/", account.password_set, name="account_set_password"),
    path("confirm/", account.reauthenticate, name="account_reauthenticate"),
]
