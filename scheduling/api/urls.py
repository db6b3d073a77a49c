from django.urls import path

from scheduling.api import views

urlpatterns = [
    path("nodes/join", views.NodeJoin.as_view(), name="api-node-join"),
    path("nodes/exchange", views.NodeExchange.as_view(), name="api-node-exchange"),
]
