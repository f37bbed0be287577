# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""An event's bytes, in C: the twin of ``encoder_py``, which is its specification.

Fields are written straight into one owned buffer, with room in front of the payload for a response head and a
chunk's size, and behind it for a chunk's end: what leaves is one piece of memory and one call of ``send``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Check, PyDict_GetItemWithError, PyDict_Size
from cpython.list cimport PyList_Check, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.ref cimport PyObject
from libc.string cimport memchr, memcpy

from bunpy._speedups.fields import (
    data_text,
    id_text,
    piece_bytes,
    refuse_event,
    refuse_keys,
    refuse_piece,
    refuse_surrogate,
    refuse_value,
    retry_text,
)

cdef extern from "Python.h":
    bint PyUnicode_Check(object)
    bint PyUnicode_IS_COMPACT_ASCII(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    void* PyUnicode_DATA(object)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    Py_ssize_t Py_SIZE(object)

cdef enum:
    TAILROOM = 16              # a chunk's end and the last chunk go here
    CAPACITY = 80 * 1024       # a flush comes at 64 KiB: room for that and one more usual event
    CAPACITY_KEPT = 1 << 20    # what one huge event made it grow to is given back

cdef str DATA = "data", EVENT = "event", ID = "id", RETRY = "retry", COMMENT = "comment"


cdef class ByteBuffer:
    """Bytes on their way out; a subclass says how an item becomes bytes."""

    def __cinit__(self):
        self.used = 0
        self.capacity = CAPACITY
        self.memory = <char*>PyMem_RawMalloc(HEADROOM + CAPACITY + TAILROOM)
        if self.memory is NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_RawFree(self.memory)

    def __len__(self):
        """How many bytes are waiting."""
        return self.used

    def append(self, item):
        """Add an item; gives how many events it was. A refused one leaves the buffer as it was."""
        return self.add(item)

    def take(self):
        """The bytes that are waiting; none are left."""
        taken = PyBytes_FromStringAndSize(payload(self), self.used)
        self.clear()
        return taken

    cdef Py_ssize_t add(self, object item) except -1:
        raise NotImplementedError

    cdef int reserve(self, Py_ssize_t more) except -1:
        """Make room for ``more`` bytes of payload."""
        cdef Py_ssize_t wanted = self.written + more, capacity = self.capacity
        cdef char* memory
        if wanted <= capacity:
            return 0
        while capacity < wanted:
            capacity *= 2
        memory = <char*>PyMem_RawRealloc(self.memory, HEADROOM + capacity + TAILROOM)
        if memory is NULL:
            raise MemoryError()
        self.memory = memory
        self.capacity = capacity
        return 0

    cdef void clear(self) noexcept:
        cdef char* memory
        self.used = 0
        if self.capacity > CAPACITY_KEPT:
            memory = <char*>PyMem_RawRealloc(self.memory, HEADROOM + CAPACITY + TAILROOM)
            if memory is not NULL:
                self.memory = memory
                self.capacity = CAPACITY


cdef class EventBuffer(ByteBuffer):
    """Events on their way out, as bytes. One a server: it is empty whenever a stream suspends."""

    cdef Py_ssize_t add(self, object item) except -1:
        cdef Py_ssize_t count = 0
        self.written = self.used
        if not PyList_Check(item):
            add_event(self, item)
            self.used = self.written
            return 1
        while count < PyList_GET_SIZE(item):  # asked each time: an event may change the list it is in
            event = <object>PyList_GET_ITEM(item, count)  # and drop itself from it: this reference keeps it
            add_event(self, event)
            count += 1
        self.used = self.written
        return count


cdef class BytesBuffer(ByteBuffer):
    """The pieces of a plain streamed body on their way out."""

    cdef Py_ssize_t add(self, object item) except -1:
        if isinstance(item, str):
            item = piece_bytes(item)
        elif isinstance(item, (bytearray, memoryview)):
            item = memoryview(item).tobytes()
        elif not isinstance(item, bytes):
            refuse_piece(item)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(item)
        self.written = self.used
        self.reserve(size)
        memcpy(payload(self) + self.used, PyBytes_AS_STRING(item), size)
        self.used += size
        return 1


def encode(event):
    """One event as the bytes of an event stream (WHATWG HTML 9.2.6); see ``encoder_py.encode``."""
    # A list is a batch for a buffer and no event here, as in the twin.
    if PyList_Check(event):
        refuse_event(event)
    cdef EventBuffer buf = EventBuffer.__new__(EventBuffer)
    buf.add(event)
    return buf.take()


cdef int add_event(ByteBuffer buf, object event) except -1:
    cdef PyObject* found
    cdef object data = None
    cdef Py_ssize_t before = buf.written
    if PyUnicode_Check(event):
        add_lines(buf, DATA, "data: ", 6, event)
        add_raw(buf, "\n", 1)
        return 0
    if not PyDict_Check(event):
        refuse_event(event)
    found = PyDict_GetItemWithError(event, DATA)
    if found is not NULL:
        data = <object>found
    if PyDict_Size(event) > (found is not NULL):
        add_other_fields(buf, event, found is not NULL)
    if found is not NULL:
        add_lines(buf, DATA, "data: ", 6, data if PyUnicode_Check(data) else data_text(data))
    if buf.written == before:
        refuse_keys(event)
    add_raw(buf, "\n", 1)
    return 0


cdef int add_other_fields(ByteBuffer buf, object event, bint has_data) except -1:
    cdef Py_ssize_t known = has_data
    # Owned references: what refuses or formats one field may run code of the user's that drops another.
    cdef object comment = field(event, COMMENT, &known)
    cdef object name = field(event, EVENT, &known)
    cdef object identity = field(event, ID, &known)
    cdef object retry = field(event, RETRY, &known)
    if PyDict_Size(event) != known:
        refuse_keys(event)
    if comment is not None:
        if not PyUnicode_Check(comment):
            refuse_value(COMMENT, comment)
        add_lines(buf, COMMENT, ": ", 2, comment)
    if name is not None:
        if not has_data:
            refuse_keys(event)
        if not PyUnicode_Check(name):
            refuse_value(EVENT, name)
        add_line(buf, EVENT, "event: ", 7, name, False)
    if identity is not None:
        add_line(buf, ID, "id: ", 4, identity if PyUnicode_Check(identity) else id_text(identity), True)
    if retry is not None:
        add_line(buf, RETRY, "retry: ", 7, retry_text(retry), False)
    return 0


cdef object field(object event, str key, Py_ssize_t* known):
    """The value of an optional field, None where it is absent or None; counts the key if it is there."""
    cdef PyObject* found = PyDict_GetItemWithError(event, key)
    if found is NULL:
        return None
    known[0] += 1
    return <object>found


cdef int add_raw(ByteBuffer buf, const char* source, Py_ssize_t size) except -1:
    buf.reserve(size)
    memcpy(payload(buf) + buf.written, source, size)
    buf.written += size
    return 0


cdef const char* utf8(str name, object text, Py_ssize_t* size) except NULL:
    """The text as UTF-8, in memory that the str keeps: a str of ASCII is its own UTF-8."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        size[0] = PyUnicode_GET_LENGTH(text)
        return <const char*>PyUnicode_DATA(text)
    try:
        return PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError as exc:
        refuse_surrogate(name, text, exc)


cdef int add_line(
    ByteBuffer buf, str name, const char* mark, Py_ssize_t mark_size, object text, bint refuses_nul
) except -1:
    cdef Py_ssize_t size = 0
    cdef const char* source = utf8(name, text, &size)
    cdef char* target
    if (
        memchr(source, 10, size) is not NULL
        or memchr(source, 13, size) is not NULL
        or (refuses_nul and memchr(source, 0, size) is not NULL)
    ):
        refuse_value(name, text)
    buf.reserve(mark_size + size + 1)
    target = payload(buf) + buf.written
    memcpy(target, mark, mark_size)
    memcpy(target + mark_size, source, size)
    target[mark_size + size] = 10
    buf.written += mark_size + size + 1
    return 0


cdef int add_lines(ByteBuffer buf, str name, const char* mark, Py_ssize_t mark_size, object text) except -1:
    """A field that takes as many lines as its text has, split on CRLF, LF and CR."""
    cdef Py_ssize_t size = 0, length
    cdef const char* source = utf8(name, text, &size)
    cdef const char* end = source + size
    cdef const char* lf
    cdef const char* cr
    cdef const char* stop
    cdef char* target
    # Each mark is kept until the text has passed it: one search over the text a kind of line end.
    lf = <const char*>memchr(source, 10, size)
    cr = <const char*>memchr(source, 13, size)
    while True:
        if lf is not NULL and lf < source:
            lf = <const char*>memchr(source, 10, end - source)
        if cr is not NULL and cr < source:
            cr = <const char*>memchr(source, 13, end - source)
        if lf is NULL:
            stop = cr
        elif cr is NULL or lf < cr:
            stop = lf
        else:
            stop = cr
        length = (end if stop is NULL else stop) - source
        buf.reserve(mark_size + length + 1)
        target = payload(buf) + buf.written
        memcpy(target, mark, mark_size)
        memcpy(target + mark_size, source, length)
        target[mark_size + length] = 10
        buf.written += mark_size + length + 1
        if stop is NULL:
            return 0
        source = stop + 1
        if stop[0] == 13 and source < end and source[0] == 10:
            source += 1
