/* Faults of a file system, on request: preloaded into a process, it makes calls on some paths fail or take longer.
 *
 *   FAULTFS_PATH   part of the paths that are meant
 *   FAULTFS_DIR    folder of what is armed: a file OP.N makes the next OP fail, once, with the errno it holds;
 *                  OP.always makes each fail. OP: open (to read), create, read, write, rename, fsync, mkdir
 *   FAULTFS_STAT_MS  milliseconds added to each stat, and to each open
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int meant(const char *path) {
    const char *part = getenv("FAULTFS_PATH");
    return path && part && *part && strstr(path, part);
}

static int code_in(const char *name) {
    char text[16] = {0};
    int file = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY);
    if (file < 0) return 0;
    if (syscall(SYS_read, file, text, sizeof text - 1) < 0) text[0] = 0;
    syscall(SYS_close, file);
    return atoi(text);
}

/* The errno that the next call of this kind fails with; 0 for none. */
static int armed(const char *op) {
    const char *folder = getenv("FAULTFS_DIR");
    char name[4096];
    if (!folder) return 0;
    snprintf(name, sizeof name, "%s/%s.always", folder, op);
    int code = code_in(name);
    for (int n = 0; !code && n < 8; n++) {
        snprintf(name, sizeof name, "%s/%s.%d", folder, op, n);
        code = code_in(name);
        /* Of several processes one alone removes it. */
        if (code && syscall(SYS_unlink, name)) code = 0;
    }
    return code;
}

static int fails(const char *op, const char *path) {
    int code = meant(path) ? armed(op) : 0;
    if (code) errno = code;
    return code;
}

static const char *path_of(int file, char *name) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlink, link, name, 4095);
    if (length < 0) return NULL;
    name[length] = 0;
    return name;
}

static void wait_as_told(const char *path) {
    const char *text = getenv("FAULTFS_STAT_MS");
    if (text && meant(path)) {
        long ms = atol(text);
        struct timespec span = {ms / 1000, (ms % 1000) * 1000000L};
        nanosleep(&span, NULL);
    }
}

#define OPEN_BODY(name, before, ...)                                        \
    mode_t mode = 0;                                                        \
    if (flags & (O_CREAT | O_TMPFILE)) {                                    \
        va_list rest;                                                       \
        va_start(rest, flags);                                              \
        mode = va_arg(rest, mode_t);                                        \
        va_end(rest);                                                       \
    }                                                                       \
    wait_as_told(path);                                                     \
    if (fails((flags & (O_CREAT | O_WRONLY | O_RDWR)) ? "create" : "open", path)) return -1; \
    return NEXT(name)(__VA_ARGS__, flags, mode);

int open(const char *path, int flags, ...) { OPEN_BODY(open, , path) }
int open64(const char *path, int flags, ...) { OPEN_BODY(open64, , path) }
int openat(int folder, const char *path, int flags, ...) { OPEN_BODY(openat, , folder, path) }
int openat64(int folder, const char *path, int flags, ...) { OPEN_BODY(openat64, , folder, path) }

#define ON_FILE(type, name, op, declared, ...)              \
    type name declared {                                    \
        char path[4096];                                    \
        if (fails(op, path_of(file, path))) return -1;      \
        return NEXT(name)(__VA_ARGS__);                     \
    }

ON_FILE(ssize_t, read, "read", (int file, void *to, size_t count), file, to, count)
ON_FILE(ssize_t, pread64, "read", (int file, void *to, size_t count, off64_t at), file, to, count, at)
ON_FILE(ssize_t, preadv64, "read", (int file, const struct iovec *to, int count, off64_t at), file, to, count, at)
ON_FILE(ssize_t, write, "write", (int file, const void *from, size_t count), file, from, count)
ON_FILE(int, fsync, "fsync", (int file), file)

#define ON_PATH(name, op, declared, ...)        \
    int name declared {                         \
        wait_as_told(path);                     \
        if (fails(op, path)) return -1;         \
        return NEXT(name)(__VA_ARGS__);         \
    }

ON_PATH(rename, "rename", (const char *path, const char *to), path, to)
ON_PATH(mkdir, "mkdir", (const char *path, mode_t mode), path, mode)
ON_PATH(stat, "stat", (const char *restrict path, struct stat *restrict to), path, to)
ON_PATH(stat64, "stat", (const char *restrict path, struct stat64 *restrict to), path, to)
ON_PATH(lstat, "stat", (const char *restrict path, struct stat *restrict to), path, to)
ON_PATH(lstat64, "stat", (const char *restrict path, struct stat64 *restrict to), path, to)
ON_PATH(fstatat64, "stat", (int at, const char *restrict path, struct stat64 *restrict to, int flags), at, path, to, flags)
