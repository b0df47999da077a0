"""The URLs of sign-in, below the console's. Allauth looks them up by these names."""

from allauth.account import views as account
from allauth.mfa.base import views as second_factor
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as app
from allauth.mfa.webauthn import views as passkeys
from allauth.socialaccount import views as provider_pages
from django.apps import apps
from django.urls import URLPattern, URLResolver, path, re_path

from outbound.signin import identities, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", views.LoginView.as_view(), name="account_login"),
    path("login/second-factor/", second_factor.authenticate, name="mfa_authenticate"),
    path("login/passkey/", passkeys.login_webauthn, name="mfa_login_webauthn"),
    path("login/oidc/<slug:provider_id>/", identities.openid_login, name="openid_connect_login"),
    path("login/oidc/<slug:provider_id>/callback/", identities.openid_callback, name="openid_connect_callback"),
    path("login/cancelled/", provider_pages.login_cancelled, name="socialaccount_login_cancelled"),
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
    path("account/", views.AccountView.as_view(), name="mfa_index"),
    path("account/confirm/", views.ConfirmView.as_view(), name="account_reauthenticate"),
    path("account/confirm/code/", views.ConfirmByCodeView.as_view(), name="mfa_reauthenticate"),
    path("account/confirm/passkey/", views.ConfirmByPasskeyView.as_view(), name="mfa_reauthenticate_webauthn"),
    path("account/second-factor/", views.send_enrolment_link, name="second_factor_send_link"),
    path("account/second-factor/<str:token>/", views.open_enrolment_link, name="second_factor_open_link"),
    path("account/app/", views.SetUpAppView.as_view(), name="mfa_activate_totp"),
    path("account/app/remove/", app.deactivate_totp, name="mfa_deactivate_totp"),
    path("account/recovery-codes/", recovery_codes.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("account/recovery-codes/new/", recovery_codes.generate_recovery_codes, name="mfa_generate_recovery_codes"),
    path("account/links/", identities.LinksView.as_view(), name="socialaccount_connections"),
    path("account/sessions/", views.end_sessions, name="usersessions_list"),
    path("account/passkeys/add/", views.AddPasskeyView.as_view(), name="mfa_add_webauthn"),
    path("account/passkeys/<int:pk>/", views.RenamePasskeyView.as_view(), name="mfa_edit_webauthn"),
    path("account/passkeys/<int:pk>/remove/", views.RemovePasskeyView.as_view(), name="mfa_remove_webauthn"),
]

if apps.is_installed("allauth.socialaccount.providers.saml"):
    from outbound.signin import saml

    urlpatterns += [
        path("login/saml/<slug:organization_slug>/", saml.begin_login, name="saml_login"),
        path("login/saml/<slug:organization_slug>/acs/", saml.receive_response, name="saml_acs"),
        path("login/saml/<slug:organization_slug>/acs/finish/", saml.finish_login, name="saml_finish_acs"),
        path("login/saml/<slug:organization_slug>/metadata/", saml.metadata, name="saml_metadata"),
        path("login/saml/<slug:organization_slug>/logout/", saml.refuse_logout, name="saml_sls"),
    ]
