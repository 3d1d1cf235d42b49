//! Token bucket, CoDel and FQ-CoDel (RFC 8289, 8290); enqueue and dequeue take the time.
