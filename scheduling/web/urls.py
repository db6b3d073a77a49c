from django.urls import path

from scheduling.web import machines, views

urlpatterns = [
    path("cluster", views.cluster, name="cluster"),
    path("cluster/_nodes", views.nodes_fragment, name="cluster_nodes"),
    path("nodes", machines.machines, name="nodes"),
    path("nodes/_machines", machines.machines_fragment, name="nodes_fragment"),
    path("nodes/<slug:name>", machines.machine, name="node"),
    path("nodes/<slug:name>/_machine", machines.machine_fragment, name="node_fragment"),
    path("nodes/<slug:name>/drain", machines.drain, name="node_drain"),
    path("nodes/<slug:name>/cordon", machines.cordon, name="node_cordon"),
    path("nodes/<slug:name>/return", machines.give_back, name="node_return"),
    path("nodes/<slug:name>/gone", machines.gone, name="node_gone"),
    path("nodes/<slug:name>/gpus/<str:uuid>/clear", machines.clear, name="gpu_clear"),
    path("scheduler", views.scheduler, name="scheduler"),
    path("scheduler/_loop", views.loop_fragment, name="scheduler_loop"),
]
