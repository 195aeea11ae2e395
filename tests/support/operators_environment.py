"""The variables that change how Ray behaves, as the KubeRay operator sets them in its Pods.

After `setContainerEnvVars` and `configureGCSFaultTolerance` in
`ray-operator/controllers/ray/common/pod.go` of KubeRay 1.7.0.
"""

TIMEOUTS = {
    # "To improve the service SLA", of a RayService alone.
    "RAY_timeout_ms_task_wait_for_death_info": "0",
    "RAY_gcs_server_request_timeout_seconds": "5",
    "RAY_SERVE_KV_TIMEOUT_S": "5",
}
"""In every Pod of a RayService."""
WORKERS = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
"""Where the head's state is in Redis: how long a worker waits for a new head."""
