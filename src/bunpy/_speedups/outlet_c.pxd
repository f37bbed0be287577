from bunpy._speedups.encoder_c cimport ByteBuffer


cdef class Outlet:
    cdef readonly object transport
    cdef readonly int fd
    cdef public object head
    cdef public bint is_chunked
    cdef public bint is_paused
    cdef readonly bint is_closed
    cdef readonly Py_ssize_t bytes_sent
    cdef readonly int error_number
    cdef readonly double last_sent
    cdef int flush_buffer(self, ByteBuffer buf, bint last) except -1
    cdef int send_memory(self, const char* data, Py_ssize_t size) except -1
