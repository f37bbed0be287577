# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The way out of one connection, in C: the twin of ``outlet_py``, which is its specification."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memcpy

from bunpy._speedups.clock cimport monotonic
from bunpy._speedups.encoder_c cimport HEADROOM, ByteBuffer, payload

cdef extern from *:
    """
    #ifdef _WIN32
    /* No direct send there: asyncio's transports own the socket. */
    static Py_ssize_t bunpy_send(int fd, const char *data, Py_ssize_t size) { errno = EAGAIN; return -1; }
    #else
    #include <sys/types.h>
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0  /* macOS: SO_NOSIGPIPE is set where the connection is made */
    #endif
    static Py_ssize_t bunpy_send(int fd, const char *data, Py_ssize_t size) {
        return send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    #endif
    """
    Py_ssize_t bunpy_send(int fd, const char* data, Py_ssize_t size) nogil

cdef enum:
    CHUNK_MARK = 18  # sixteen hexadecimal digits, CR, LF

cdef bytes LAST_CHUNK = b"0\r\n\r\n"


cdef class Outlet:
    """Where one connection's bytes leave; see ``outlet_py.Outlet`` for the contract."""

    def __cinit__(self, transport, int fd):
        self.transport = transport
        self.fd = fd
        self.head = None

    def flush(self, ByteBuffer buffer, bint last=False):
        """Send the head if it still waits and the buffer's bytes as one chunk; with ``last`` the end of the body."""
        self.flush_buffer(buffer, last)

    def write(self, bytes frame):
        """Send bytes that are framed as events already as one chunk, and the head before them if it still waits."""
        if self.is_chunked and frame:
            frame = b"%x\r\n%b\r\n" % (len(frame), frame)
        if self.head is not None:
            frame = <bytes>self.head + frame
            self.head = None
        if frame:
            self.send_memory(PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame))

    def close(self):
        """The connection is gone: drop what comes and let go of the transport."""
        self.is_closed = True
        self.transport = None
        self.fd = -1

    cdef int flush_buffer(self, ByteBuffer buf, bint last) except -1:
        cdef char* start = payload(buf)
        cdef Py_ssize_t size = buf.used
        cdef char* digit
        cdef Py_ssize_t left
        if self.is_chunked:
            if size:
                start[size] = 13
                start[size + 1] = 10
                left = size
                size += 2
                digit = start - 2
                digit[0] = 13
                digit[1] = 10
                while left:
                    digit -= 1
                    digit[0] = b"0123456789abcdef"[left & 15]
                    left >>= 4
                size += start - digit
                start = digit
            if last:
                memcpy(start + size, PyBytes_AS_STRING(LAST_CHUNK), 5)
                size += 5
        if self.head is not None and (size or last):
            head = <bytes>self.head
            self.head = None
            left = PyBytes_GET_SIZE(head)
            if left <= HEADROOM - CHUNK_MARK:
                start -= left
                memcpy(start, PyBytes_AS_STRING(head), left)
                size += left
            else:
                body = PyBytes_FromStringAndSize(start, size)
                buf.clear()
                head = head + body
                return self.send_memory(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        # The buffer counts as empty before the send: whatever that raises, nothing is sent twice.
        buf.used = 0
        if size:
            self.send_memory(start, size)
        buf.clear()
        return 0

    cdef int send_memory(self, const char* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t sent = 0
        transport = self.transport
        if transport is None or transport.is_closing():
            return 0
        self.bytes_sent += size
        self.last_sent = monotonic()
        if self.fd >= 0 and transport.get_write_buffer_size() == 0:
            sent = bunpy_send(self.fd, data, size)
            if sent == size:
                return 0
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    self.error_number = errno
                    transport.abort()
                    return 0
                sent = 0
        # A copy: the transport keeps a view of what it could not send, and this memory is written again.
        transport.write(PyBytes_FromStringAndSize(data + sent, size - sent))
        return 0
