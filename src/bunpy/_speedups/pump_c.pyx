# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The pump, in C: the twin of ``pump_py``, which is its specification.

The twin drives ``async for`` from outside; this one steps what ``__anext__`` returns with ``PyIter_Send``, and an
async generator itself from its second event on. That leaves out the awaitable and the StopIteration that an event
costs otherwise: 7.0 million events a second instead of 3.9, encoding included (CPython 3.11, one core, data in memory).
The interpreter boxes what an async generator yields, and marks one whose step is pending, so that nobody begins
another; neither the box's layout nor the mark's place is part of its API, so both are proved at import, and where a
proof fails every step takes the public way.
"""

from cpython.ref cimport PyObject

from bunpy._speedups.clock cimport clock, ticks
from bunpy._speedups.encoder_c cimport ByteBuffer
from bunpy._speedups.outlet_c cimport Outlet

import inspect

from bunpy._speedups.pump_py import awaited, yield_once
from bunpy.errors import InvalidEvent, InvalidResponse

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(PyObject*, PyObject*, PyObject**) except? PYGEN_ERROR
    bint PyAsyncGen_CheckExact(object)
    bint PyCoro_CheckExact(object)

cdef extern from *:
    """
    #include <structmember.h>

    /* A new reference given away to Cython, which counts what it is handed. */
    static PyObject *bunpy_own(PyObject *object) { return object; }

    typedef struct { PyObject_HEAD PyObject *value; } bunpy_box;

    static PyTypeObject *bunpy_box_type = NULL;

    /* Learn the box's type from one that is known to hold value. */
    static int bunpy_prove_box(PyObject *box, PyObject *value) {
        PyTypeObject *type = Py_TYPE(box);
        if (box == value || type->tp_basicsize != (Py_ssize_t)sizeof(bunpy_box) || type->tp_itemsize != 0
            || strcmp(type->tp_name, "async_generator_wrapped_value") != 0 || ((bunpy_box *)box)->value != value)
            return 0;
        bunpy_box_type = type;
        return 1;
    }

    static int bunpy_is_box(PyObject *object) { return Py_TYPE(object) == bunpy_box_type; }

    #if PY_VERSION_HEX < 0x030B0000
    typedef int bunpy_flag;
    #else
    typedef char bunpy_flag;
    #endif

    /* Where in an async generator ag_running is, which is set while one of its steps is pending. */
    static Py_ssize_t bunpy_running_offset = 0;

    static int bunpy_find_running(void) {
        PyMemberDef *member = PyAsyncGen_Type.tp_members;
        for (; member != NULL && member->name != NULL; member++)
            if (strcmp(member->name, "ag_running") == 0 && member->type == T_BOOL)
                bunpy_running_offset = member->offset;
        return bunpy_running_offset > 0
            && bunpy_running_offset + (Py_ssize_t)sizeof(bunpy_flag) <= PyAsyncGen_Type.tp_basicsize;
    }

    static bunpy_flag *bunpy_running(PyObject *generator) {
        return (bunpy_flag *)((char *)generator + bunpy_running_offset);
    }

    static int bunpy_is_running(PyObject *generator) { return *bunpy_running(generator) != 0; }

    static void bunpy_set_running(PyObject *generator, int is_running) { *bunpy_running(generator) = is_running != 0; }

    /* Step an async generator itself; as with __anext__, it is running until it has given, returned or raised. */
    static PySendResult bunpy_step(PyObject *generator, PyObject **given) {
        PySendResult result;
        *bunpy_running(generator) = 1;
        result = PyIter_Send(generator, Py_None, given);
        if (result != PYGEN_NEXT || bunpy_is_box(*given))
            *bunpy_running(generator) = 0;
        return result;
    }

    static PyObject *bunpy_boxed(PyObject *box) {
        PyObject *value = ((bunpy_box *)box)->value;
        Py_INCREF(value);
        Py_DECREF(box);
        return value;
    }

    static PyObject *bunpy_anext(PyObject *source) {
        PyAsyncMethods *methods = Py_TYPE(source)->tp_as_async;
        if (methods == NULL || methods->am_anext == NULL) {
            PyErr_Format(PyExc_TypeError, "'%.200s' object is not an async iterator", Py_TYPE(source)->tp_name);
            return NULL;
        }
        return methods->am_anext(source);
    }
    """
    object bunpy_own(PyObject*)
    object bunpy_anext(object)
    PyObject* bunpy_boxed(PyObject* box)
    bint bunpy_is_box(PyObject* box) noexcept
    int bunpy_prove_box(PyObject* box, PyObject* value) noexcept
    bint bunpy_find_running() noexcept
    bint bunpy_is_running(PyObject* generator) noexcept
    void bunpy_set_running(PyObject* generator, bint is_running) noexcept
    PySendResult bunpy_step(PyObject* generator, PyObject** given) except? PYGEN_ERROR

cdef enum:
    FLUSH_SIZE = 64 * 1024  # bytes
    STEP_TIME = 50_000      # nanoseconds
    TURN_TIME = 5_000_000   # nanoseconds
    MOST_ALONE = 8          # events
    FEW_EVENTS = 16
    LEAST_TURN = 20_000     # nanoseconds
    LONG_TURN = 20_000_000  # nanoseconds
    GLANCE_TIME = 10_000    # nanoseconds

# Whose an exception is, in run: the source's, the item's, or neither's.
cdef enum:
    STEPPING
    ADDING
    SENDING


cdef bint prove_box():
    """Whether what an async generator yields comes in the box that this module can open."""
    cdef PyObject* box = NULL
    value = object()
    source = yield_once(value)
    if PyIter_Send(<PyObject*>source, <PyObject*>None, &box) != PYGEN_NEXT:
        return False
    owned = bunpy_own(box)
    return bunpy_prove_box(<PyObject*>owned, <PyObject*>value)


cdef bint prove_running():
    """Whether this module finds an async generator's mark of a pending step, and may set it."""
    if not bunpy_find_running():
        return False
    source = yield_once(None)
    for is_running in (False, True, False):
        bunpy_set_running(<PyObject*>source, is_running)
        if source.ag_running is not is_running:
            return False
    return True


cdef unsigned long long measure_glance():
    """How many ticks are surely less than ``GLANCE_TIME``; none where ticks are not counted."""
    cdef long long began = clock()
    cdef unsigned long long first = ticks(), passed
    while clock() - began < GLANCE_TIME:
        pass
    passed = ticks() - first
    # The clock was read before and is read after: whatever came between makes it fewer ticks, and safe.
    return passed * GLANCE_TIME // (clock() - began)


# How many pumps wait for their next turn: they share the time that one would have; and what a turn has taken lately.
cdef Py_ssize_t waiting = 0
cdef double usual_turn = 0.0
cdef double spread = 0.0
cdef double EVENLY = (5**0.5 - 1) / 2
cdef bint CAN_BE_DIRECT = prove_box() and prove_running()
cdef unsigned long long GLANCE = measure_glance()
cdef object DONE = object()


cdef class Pump:
    """Moves a source's events into an outlet; see ``pump_py.Pump`` for the contract and the flush rule."""

    cdef object source
    cdef object step         # what __anext__ or athrow returned and has not given its event yet, or None
    cdef ByteBuffer buf
    cdef Outlet outlet
    cdef bint is_fresh
    cdef bint is_async_generator
    cdef bint is_direct      # whether the source is stepped itself; never before __anext__ has run its hooks
    cdef bint is_suspended   # whether the source waits at an await, and not at its yield
    cdef int stage           # whose an exception is
    cdef bint is_running     # whether a call of advance is under way, whose step must not be taken from it
    cdef bint is_waiting     # for its next turn
    cdef Py_ssize_t left_out  # how many turns of the loop it leaves to others before that
    cdef bint is_over
    cdef object refused      # the refusal that waits for the loop's turn to be thrown into the source, or None
    cdef object athrow       # what it is thrown with
    cdef long long alone     # events that leave one by one
    cdef Py_ssize_t blocked_at  # how many events it had moved after a step that took long
    cdef readonly Py_ssize_t events
    cdef readonly double first_sent
    cdef public bint is_stopped

    def __cinit__(self, source, ByteBuffer buffer, Outlet outlet):
        self.source = source
        self.step = None
        self.refused = None
        self.athrow = None
        self.buf = buffer
        self.outlet = outlet
        self.is_fresh = True
        self.is_async_generator = PyAsyncGen_CheckExact(source)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.advance(None)

    def send(self, value):
        """Go on after a suspension; part of the protocol of ``await``."""
        return self.advance(None)

    def throw(self, kind, value=None, traceback=None):
        """Raise where the source is suspended; part of the protocol of ``await``."""
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if issubclass(type(value), GeneratorExit):
            self.close()
            raise value
        return self.advance(value)

    def __del__(self):
        if self.is_suspended:
            self.close()

    def __dealloc__(self):
        self.stop_waiting()

    def close(self):
        """Close a step that is suspended; part of the protocol of ``await``."""
        self.refuse_reentry()
        self.stop_waiting()
        step = self.taken_step() if self.is_suspended else None
        self.is_suspended = False
        self.is_over = True
        self.refused = self.athrow = None
        if step is not None:
            step.close()

    cdef object taken_step(self):
        """The step that is suspended, for its last: of a generator stepped itself, one that ``__anext__`` makes now."""
        step, self.step = self.step, None
        if step is None:
            bunpy_set_running(<PyObject*>self.source, False)
            step = bunpy_anext(self.source)
        return step

    cdef object advance(self, object thrown):
        """Run until the source suspends (gives what it yielded to the loop) or the await is over (StopIteration)."""
        self.refuse_reentry()
        if self.left_out and thrown is None:
            self.left_out -= 1
            return None
        self.left_out = 0
        self.stop_waiting()
        if self.is_over:
            raise StopIteration(False)
        cdef long long began = clock()
        self.is_running = True
        try:
            yielded = self.advance_in_turn(thrown, began, began + max(TURN_TIME // (1 + waiting), LEAST_TURN))
        finally:
            self.is_running = False
        if yielded is DONE:
            raise StopIteration(not self.is_over)
        return yielded

    cdef object advance_in_turn(self, object thrown, long long began, long long turn):
        """The same, until ``turn`` at the latest; ``DONE`` if the await is over."""
        while True:
            try:
                return self.run(thrown, began, turn)
            except BaseException as exc:
                # By its type alone, as ``except`` would: isinstance also asks the exception.
                kind = type(exc)
                if self.stage == ADDING and issubclass(kind, (InvalidEvent, InvalidResponse)):
                    self.refused = exc
                    thrown = None
                    continue
                self.is_over = True
                if self.stage == STEPPING and issubclass(kind, StopAsyncIteration):
                    self.step = None
                    return DONE
                if not self.is_suspended:
                    self.step = None
                self.refused = self.athrow = None
                self.outlet.flush_buffer(self.buf, False)
                if issubclass(kind, StopIteration):
                    # It would be taken for what the await gives; this is what becomes of it in a coroutine.
                    raise RuntimeError("coroutine raised StopIteration") from exc
                raise

    cdef object run(self, object thrown, long long began, long long turn):
        """Step and add until something is given to the loop, which it returns, or the await is ``DONE``."""
        cdef PyObject* given = NULL
        cdef object item
        cdef bint is_direct
        cdef long long now, most, entered = began  # it began
        cdef unsigned long long glanced = ticks()
        while True:
            if thrown is not None:
                exc, thrown = thrown, None
                if not self.is_suspended:
                    self.stage = SENDING
                    raise exc
                self.stage = STEPPING
                is_direct = self.step is None
                step = self.taken_step()
                self.is_suspended = False
                try:
                    yielded = step.throw(exc)
                except StopIteration as stop:
                    item = stop.value
                else:
                    if is_direct:
                        bunpy_set_running(<PyObject*>self.source, True)
                    else:
                        self.step = step
                    return self.suspend(yielded)
            elif self.refused is not None:
                self.stage = SENDING
                if self.athrow is None:
                    self.athrow = getattr(self.source, "athrow", None)
                    if self.athrow is None:
                        raise self.refused
                    # Thrown when the loop has had its turn: a step that is made and never begun warns.
                    if clock() > turn:
                        return self.take_turn(entered)
                exc, athrow = self.refused, self.athrow
                self.refused = self.athrow = None
                if self.is_async_generator and self.source.ag_frame is None:
                    self.is_over = True
                    return DONE
                self.stage = STEPPING
                self.step = self.steppable(athrow(exc))
                continue
            elif self.is_direct and self.step is None and (
                self.is_suspended or not bunpy_is_running(<PyObject*>self.source)
            ):
                self.stage = STEPPING
                self.is_suspended = False
                if bunpy_step(<PyObject*>self.source, &given) != PYGEN_NEXT:
                    bunpy_own(given)
                    self.is_over = True
                    return DONE
                if not bunpy_is_box(given):
                    return self.suspend(bunpy_own(given))
                item = bunpy_own(bunpy_boxed(given))
            else:
                self.stage = STEPPING
                self.is_suspended = False
                if self.step is None:
                    self.step = self.steppable(bunpy_anext(self.source))
                if PyIter_Send(<PyObject*>self.step, <PyObject*>None, &given) == PYGEN_NEXT:
                    return self.suspend(bunpy_own(given))
                item = bunpy_own(given)
                self.step = None
                self.is_direct = self.is_async_generator and CAN_BE_DIRECT
            self.stage = ADDING
            self.events += self.buf.add(item)
            self.stage = SENDING
            # A clock an event would be a tenth of its cost: it is read when so many ticks have passed that the step
            # may have taken long. That counts the steps before it, by GLANCE_TIME at most, with the long one.
            now = began
            if ticks() - glanced >= GLANCE:
                now = clock()
                glanced = ticks()
                if now - began > STEP_TIME:
                    most = MOST_ALONE if self.events - self.blocked_at <= FEW_EVENTS else 1
                    self.alone = max(self.alone, min((now - began) // STEP_TIME, most))
                    self.blocked_at = self.events
            if self.is_fresh or self.alone or self.buf.used >= FLUSH_SIZE:
                self.outlet.flush_buffer(self.buf, False)
                self.is_fresh = False
                self.alone = max(self.alone - 1, 0)
                if self.first_sent == 0.0:
                    self.first_sent = self.outlet.last_sent
                if self.is_stopped:
                    self.is_over = True
                    return DONE
                if self.outlet.is_paused:
                    return DONE
                now = clock()
                glanced = ticks()
            if now > turn:
                return self.take_turn(entered)
            began = now

    cdef object suspend(self, object yielded):
        self.stage = SENDING
        self.is_suspended = True
        self.outlet.flush_buffer(self.buf, False)
        self.is_fresh = True
        return yielded

    cdef object take_turn(self, long long began):
        """Let the loop turn: what a bare ``yield`` means to a task. This turn ``began`` then."""
        global waiting, usual_turn, spread
        cdef double most
        self.outlet.flush_buffer(self.buf, False)
        self.is_fresh = True
        self.is_waiting = True
        waiting += 1
        usual_turn += (<double>min(clock() - began, LONG_TURN) - usual_turn) / 8
        spread = (spread + EVENLY) % 1.0
        most = 2 * (waiting * usual_turn / TURN_TIME - 1)
        self.left_out = <Py_ssize_t>(most * spread + 0.5) if waiting > 1 and most > 0 else 0
        return None

    cdef int refuse_reentry(self) except -1:
        if self.is_running:
            raise ValueError("coroutine already executing")  # as the twin's
        return 0

    cdef void stop_waiting(self) noexcept:
        global waiting
        if self.is_waiting:
            self.is_waiting = False
            waiting -= 1

    cdef object steppable(self, object step):
        """What ``__anext__`` or ``athrow`` returned, as something that ``PyIter_Send`` steps as ``await`` would."""
        if self.is_async_generator or PyCoro_CheckExact(step):
            return step
        if not inspect.isawaitable(step):
            raise TypeError(f"__anext__ gave {step!r}, which cannot be awaited")
        return awaited(step)
