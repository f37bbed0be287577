"""The time as a step of the pump needs it. What lives here is compiled into each module that cimports it."""

cdef extern from *:
    """
    #ifndef BUNPY_CLOCK
    #define BUNPY_CLOCK
    #include <time.h>

    #ifdef _WIN32
    #include <windows.h>
    static inline double bunpy_monotonic(void) {
    #if PY_VERSION_HEX >= 0x030D0000
        PyTime_t now;
        return PyTime_MonotonicRaw(&now) < 0 ? 0.0 : (double)now * 1e-9;
    #else
        return (double)GetTickCount64() * 1e-3;
    #endif
    }
    static inline long long bunpy_clock(void) {
        LARGE_INTEGER count, frequency;
        QueryPerformanceCounter(&count);
        QueryPerformanceFrequency(&frequency);
        return (long long)((double)count.QuadPart * 1e9 / (double)frequency.QuadPart);
    }
    #else
    static inline long long bunpy_clock(void) {
        struct timespec now;
    #ifdef __APPLE__
        clock_gettime(CLOCK_UPTIME_RAW, &now);  /* what time.monotonic reads there */
    #else
        clock_gettime(CLOCK_MONOTONIC, &now);
    #endif
        return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
    }
    static inline double bunpy_monotonic(void) { return (double)bunpy_clock() * 1e-9; }
    #endif

    /* The processor's own counter, which costs a third of a clock; 0 where none is known. */
    static inline unsigned long long bunpy_ticks(void) {
    #if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__))
        return __builtin_ia32_rdtsc();
    #elif (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__)
        unsigned long long ticks;
        __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
        return ticks;
    #else
        return 0;
    #endif
    }
    #endif
    """
    # Nanoseconds of a clock that never goes back.
    long long clock "bunpy_clock"() noexcept nogil
    # Seconds, as ``time.monotonic`` tells them.
    double monotonic "bunpy_monotonic"() noexcept nogil
    # A count that grows steadily at a rate that is not known; see where it is measured.
    unsigned long long ticks "bunpy_ticks"() noexcept nogil
