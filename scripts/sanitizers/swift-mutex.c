// Tells the thread sanitizer about Swift's Mutex. For scripts/sanitize; no part of the package.
//
// On Linux a contended Mutex is locked and unlocked by the kernel (FUTEX_LOCK_PI), inside libswiftSynchronization, which is
// not instrumented: the sanitizer sees no order between the two critical sections and reports a race between them, in any
// program. This library is preloaded, stands in front of the three slow paths, and says what they mean.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))

// Absent in a process that is not instrumented, which this library may be loaded into as well.
__attribute__((weak)) void __tsan_acquire(void *address);
__attribute__((weak)) void __tsan_release(void *address);

SWIFT void mutex_lock_slow(uint32_t thread, SELF void *mutex) __asm__(LOCK);
SWIFT bool mutex_try_lock_slow(SELF void *mutex) __asm__(TRY_LOCK);
SWIFT void mutex_unlock_slow(SELF void *mutex) __asm__(UNLOCK);

static void *original(void **cache, const char *symbol) {
    void *function = __atomic_load_n(cache, __ATOMIC_ACQUIRE);
    if (!function) {
        function = dlsym(RTLD_NEXT, symbol);
        __atomic_store_n(cache, function, __ATOMIC_RELEASE);
    }
    return function;
}

SWIFT void mutex_lock_slow(uint32_t thread, SELF void *mutex) {
    static void *cache;
    ((SWIFT void (*)(uint32_t, SELF void *))original(&cache, LOCK))(thread, mutex);
    if (__tsan_acquire) __tsan_acquire(mutex);
}

SWIFT bool mutex_try_lock_slow(SELF void *mutex) {
    static void *cache;
    bool is_locked = ((SWIFT bool (*)(SELF void *))original(&cache, TRY_LOCK))(mutex);
    if (is_locked && __tsan_acquire) __tsan_acquire(mutex);
    return is_locked;
}

SWIFT void mutex_unlock_slow(SELF void *mutex) {
    static void *cache;
    if (__tsan_release) __tsan_release(mutex);
    ((SWIFT void (*)(SELF void *))original(&cache, UNLOCK))(mutex);
}
