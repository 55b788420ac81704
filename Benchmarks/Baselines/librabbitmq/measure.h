// What both sides measure with: a clock, the CPU time of this process, and a log-linear histogram.
#ifndef MEASURE_H
#define MEASURE_H

#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// User and system time of this process, in microseconds.
static inline double cpu_us(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

// The largest resident set so far, in kB.
static inline long max_rss_kb(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
#ifdef __APPLE__
  return u.ru_maxrss / 1024;
#else
  return u.ru_maxrss;
#endif
}

// 128 buckets to each power of two: a value is told to within 0.8 %.
#define HISTOGRAM_BITS 7
#define HISTOGRAM_STEPS (1u << HISTOGRAM_BITS)
#define HISTOGRAM_SIZE ((64 - HISTOGRAM_BITS + 1) * HISTOGRAM_STEPS)

typedef struct {
  uint64_t total;
  uint64_t counts[HISTOGRAM_SIZE];
} histogram;

static inline unsigned histogram_index(uint64_t value) {
  if (value < HISTOGRAM_STEPS) return (unsigned)value;
  unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_BITS;
  return (shift + 1) * HISTOGRAM_STEPS + (unsigned)(value >> shift) - HISTOGRAM_STEPS;
}

static inline void histogram_record(histogram *h, uint64_t value) {
  h->counts[histogram_index(value)]++;
  h->total++;
}

// The smallest recorded value (its bucket's middle) that this part of all values does not exceed.
static inline double histogram_at(const histogram *h, double part) {
  uint64_t wanted = (uint64_t)(part * (double)h->total + 0.5), seen = 0;
  if (wanted == 0) wanted = 1;
  for (unsigned i = 0; i < HISTOGRAM_SIZE; i++) {
    seen += h->counts[i];
    if (seen < wanted) continue;
    if (i < HISTOGRAM_STEPS) return i;
    unsigned shift = i / HISTOGRAM_STEPS - 1;
    return ((double)(i % HISTOGRAM_STEPS + HISTOGRAM_STEPS) + 0.5) * (double)(1ull << shift);
  }
  return 0;
}

#endif
