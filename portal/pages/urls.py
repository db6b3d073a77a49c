from django.urls import path

from portal.pages import views

urlpatterns = [
    path("login", views.log_in, name="login"),
    path("logout", views.log_out, name="logout"),
    path("healthz", views.healthz, name="healthz"),
]
