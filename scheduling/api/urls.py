from django.urls import path

from scheduling.api import jobs, machines, views

urlpatterns = [
    path("jobs", jobs.JobList.as_view(), name="api-jobs"),
    path("jobs:batch", jobs.JobBatch.as_view(), name="api-jobs-batch"),
    path("jobs/<int:job_id>", jobs.JobItem.as_view(), name="api-job"),
    path("jobs/<int:job_id>:cancel", jobs.JobCancel.as_view(), name="api-job-cancel"),
    path("jobs/<int:job_id>/why", jobs.JobWhy.as_view(), name="api-job-why"),
    path("nodes/join", views.NodeJoin.as_view(), name="api-node-join"),
    path("nodes/exchange", views.NodeExchange.as_view(), name="api-node-exchange"),
    path("nodes", machines.NodeList.as_view(), name="api-nodes"),
    path("nodes/<slug:name>", machines.NodeItem.as_view(), name="api-node"),
    path("nodes/<slug:name>/drain", machines.NodeDrain.as_view(), name="api-node-drain"),
    path("nodes/<slug:name>/cordon", machines.NodeCordon.as_view(), name="api-node-cordon"),
    path("nodes/<slug:name>/return", machines.NodeReturn.as_view(), name="api-node-return"),
    path("nodes/<slug:name>/gpus/<str:uuid>/clear", machines.GpuClear.as_view(), name="api-gpu-clear"),
]
