"""The demo's own pages."""

from django.urls import path, re_path

from config.demo import site, views

app_name = "demo"
urlpatterns = [
    path("mail/", views.mails, name="mails"),
    path("mail/<str:key>/", views.mail, name="mail"),
    path("site/", site.page, name="site"),
    path("site/log-in/", site.login, name="site-login"),
    path("site/log-in/as/", site.log_in, name="site-log-in"),
    path("site/log-out/", site.log_out, name="site-log-out"),
    re_path("^site/(?P<name>projects|pricing)/$", site.page, name="site-page"),
]
