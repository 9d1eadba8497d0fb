/* Faults that a machine doesn't have when one would like it to, for all processes of a command (LD_PRELOAD): reads of
   some files fail with EIO, and the time of the day jumps. Both begin when somebody writes it into a file that all of
   the processes map.

   FAULTS_SHARED  that file, a `struct shared`
   FAULTS_INPUTS  reads of files below this folder may fail

   Not felt: memory that is mapped from a file, times that the kernel gives to files, times that it prints. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct shared {
    volatile int64_t jump_s;     /* added to the time of the day */
    volatile int64_t reads_fail; /* whether they do */
    volatile int64_t failed;     /* reads that did */
};

static struct shared none, *shared = &none;
static const char *inputs = "";

/* The function of that name which is called where this library isn't loaded. */
#define NEXT(name) \
    ({ \
        static __typeof__(&name) next; \
        if (!next) \
            next = dlsym(RTLD_NEXT, #name); \
        next; \
    })
/* Where a deadline is a time of the day, not one since the machine's start. */
#define IS_OF_THE_DAY(seconds) ((seconds) > 1000000000)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_SHARED"), *folder = getenv("FAULTS_INPUTS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        shared = mapped;
    if (folder)
        inputs = folder;
}

static int fails(int file) {
    char link[64], path[PATH_MAX];
    if (!shared->reads_fail || !*inputs)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path);
    if (length < (ssize_t)strlen(inputs) || strncmp(path, inputs, strlen(inputs)))
        return 0;
    __sync_fetch_and_add(&shared->failed, 1);
    errno = EIO;
    return 1;
}

ssize_t read(int file, void *to, size_t bytes) { return fails(file) ? -1 : NEXT(read)(file, to, bytes); }

ssize_t pread(int file, void *to, size_t bytes, off_t at) {
    return fails(file) ? -1 : NEXT(pread)(file, to, bytes, at);
}

ssize_t pread64(int file, void *to, size_t bytes, off64_t at) {
    return fails(file) ? -1 : NEXT(pread64)(file, to, bytes, at);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int refused = NEXT(clock_gettime)(clock, now);
    if (!refused && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shared->jump_s;
    return refused;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int refused = NEXT(gettimeofday)(now, zone);
    now->tv_sec += shared->jump_s;
    return refused;
}

time_t time(time_t *to) {
    time_t now = NEXT(time)(NULL) + shared->jump_s;
    if (to)
        *to = now;
    return now;
}

/* The kernel's own clock has not jumped: deadlines go back to it. */
static struct timespec kernels(const struct timespec *until) {
    struct timespec found = *until;
    if (IS_OF_THE_DAY(found.tv_sec))
        found.tv_sec -= shared->jump_s;
    return found;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    struct timespec of_kernel = kernels(until);
    return NEXT(pthread_cond_timedwait)(condition, mutex, &of_kernel);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    struct timespec of_kernel = kernels(until);
    return NEXT(sem_timedwait)(semaphore, &of_kernel);
}
