cimport cython

cdef enum:
    HEADROOM = 512             # a response head of a usual size and a chunk's size go here


cdef class ByteBuffer:
    cdef char* memory        # one allocation: HEADROOM free bytes, the payload, TAILROOM free bytes
    cdef Py_ssize_t used     # bytes of payload
    cdef Py_ssize_t written  # the same while an item is added: it counts only when all of it has been encoded
    cdef Py_ssize_t capacity  # bytes of payload that fit
    cdef Py_ssize_t add(self, object item) except -1

    @cython.final
    cdef int reserve(self, Py_ssize_t more) except -1

    @cython.final
    cdef void clear(self) noexcept


cdef class EventBuffer(ByteBuffer):
    pass


cdef class BytesBuffer(ByteBuffer):
    pass


cdef inline char* payload(ByteBuffer buf) noexcept:
    return buf.memory + HEADROOM
