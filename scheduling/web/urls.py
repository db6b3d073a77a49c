from django.urls import path

from scheduling.web import views

urlpatterns = [
    path("cluster", views.cluster, name="cluster"),
    path("cluster/_nodes", views.nodes_fragment, name="cluster_nodes"),
]
