"""A model behind HTTP with limits: MLflow's own scoring, and what keeps it alive around it.

    listen      a port is taken
    connection  the socket's side: slow heads, too many connections, an ending that finishes first
    app         which path does what; nothing but an `Answer` leaves it
    access      who may ask: host, origin, token
    body        a body is read: counted, inflated, timed
    payload     a body is understood: counted before it is parsed, cells judged by row
    parquet     a Parquet body is read by a child process
    work        the bounded queue in front of the thread that computes
    model       the verified model folder behind MLflow's scoring
    explain     Grad-CAM of one image
    metrics     what Prometheus is told
    page        the page for one image

Everything up to `payload` happens before MLflow sees a byte.
"""
