/* Let the n-th call of the system that concerns files below a folder fail, or write only a part.
   Built and loaded (LD_PRELOAD) by tests/regression/test_failing_system_calls.py. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static char place[4096], failed[256];
static int armed, from, upto, code, calls, hits;

/* From now on calls number `first` to `last` below `folder` fail with `error`; with 0, writes are short. */
void faults_arm(const char *folder, int first, int last, int error) {
    strncpy(place, folder, sizeof place - 1);
    from = first, upto = last, code = error, calls = hits = 0, failed[0] = 0, armed = 1;
}
void faults_pause(int on) { armed = !on; }
int faults_calls(void) { return calls; }
int faults_hits(void) { return hits; }
const char *faults_failed(void) { return failed; }

static int hit(const char *name, const char *what, int is_write) {
    if (!armed || !strstr(what, place) || (!code && !is_write)) return 0;
    calls++;
    if (calls < from || calls > upto) return 0;
    if (!hits++) snprintf(failed, sizeof failed, "%s %s", name, strrchr(what, '/') ? strrchr(what, '/') + 1 : what);
    errno = code;
    return 1;
}
static int hit_fd(const char *name, int fd, int is_write) {
    char link[64], what[4096];
    if (!armed) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlink, link, what, sizeof what - 1);
    if (n < 0) return 0;
    what[n] = 0;
    return hit(name, what, is_write);
}
static int hit_at(const char *name, int fd, const char *path) {
    return fd == AT_FDCWD || path[0] == '/' ? hit(name, path, 0) : hit_fd(name, fd, 0);
}

#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #name)
#define PATH1(name) int name(const char *p) { REAL(int, name, const char *); return hit(#name, p, 0) ? -1 : real(p); }
#define FD1(name) int name(int fd) { REAL(int, name, int); return hit_fd(#name, fd, 0) ? -1 : real(fd); }
#define OPEN(name) int name(const char *p, int flags, ...) { \
    va_list a; va_start(a, flags); mode_t mode = va_arg(a, int); va_end(a); \
    REAL(int, name, const char *, int, ...); return hit("open", p, 0) ? -1 : real(p, flags, mode); }
#define OPENAT(name) int name(int fd, const char *p, int flags, ...) { \
    va_list a; va_start(a, flags); mode_t mode = va_arg(a, int); va_end(a); \
    REAL(int, name, int, const char *, int, ...); return hit_at("openat", fd, p) ? -1 : real(fd, p, flags, mode); }

PATH1(unlink) PATH1(rmdir) FD1(fsync) FD1(fdatasync) FD1(syncfs) OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)
int mkdir(const char *p, mode_t m) { REAL(int, mkdir, const char *, mode_t); return hit("mkdir", p, 0) ? -1 : real(p, m); }
int chmod(const char *p, mode_t m) { REAL(int, chmod, const char *, mode_t); return hit("chmod", p, 0) ? -1 : real(p, m); }
int flock(int fd, int how) { REAL(int, flock, int, int); return hit_fd("flock", fd, 0) ? -1 : real(fd, how); }
int rename(const char *a, const char *b) {
    REAL(int, rename, const char *, const char *); return hit("rename", b, 0) ? -1 : real(a, b); }
int renameat(int d, const char *a, int e, const char *b) {
    REAL(int, renameat, int, const char *, int, const char *); return hit_at("renameat", e, b) ? -1 : real(d, a, e, b); }
int renameat2(int d, const char *a, int e, const char *b, unsigned f) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    return hit_at("renameat2", e, b) ? -1 : real(d, a, e, b, f); }
int unlinkat(int fd, const char *p, int f) {
    REAL(int, unlinkat, int, const char *, int); return hit_at("unlinkat", fd, p) ? -1 : real(fd, p, f); }
int utimensat(int fd, const char *p, const struct timespec t[2], int f) {
    REAL(int, utimensat, int, const char *, const struct timespec *, int);
    return hit_at("utimensat", fd, p) ? -1 : real(fd, p, t, f); }
DIR *opendir(const char *p) { REAL(DIR *, opendir, const char *); return hit("opendir", p, 0) ? NULL : real(p); }
ssize_t read(int fd, void *b, size_t n) {
    REAL(ssize_t, read, int, void *, size_t); return hit_fd("read", fd, 0) ? -1 : real(fd, b, n); }
ssize_t write(int fd, const void *b, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    if (!hit_fd("write", fd, 1)) return real(fd, b, n);
    return code ? -1 : real(fd, b, n > 1 ? n / 2 : n); }
