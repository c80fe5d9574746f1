/*
 * The whole user space of the lab's micro guest: process 1 of a Linux that lives in 64 MiB.
 *
 * It ticks, and knows the longest gap between two ticks; it dirties memory and writes to its disks
 * at rates given on the kernel's command line, checking what it wrote; it answers as a guest agent.
 *
 *   twinship.tick_ms=5  twinship.dirty=BYTES_PER_S  twinship.hot=BYTES  twinship.disk=BYTES_PER_S
 *
 * How a stopped guest can tell for how long it stood still: while a VM is stopped, QEMU stops its
 * clock, and CLOCK_MONOTONIC with it. The CMOS clock follows the host's. So at each of its seconds
 * we compare the two: a jump of their difference is the time we were not there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define NS 1000000000LL
#define LINE_BYTES 65536
#define AGENT_PORT "org.qemu.guest_agent.0"

static struct {
    long long tick_ms, dirty, hot, disk;
} options = {.tick_ms = 5, .dirty = 0, .hot = 16 << 20, .disk = 0};

static _Atomic long long dirtied, memory_errors, disk_writes, disk_errors, longest_write_ns;
static atomic_int frozen;
static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
static int disks;

static long long ticks, longest_gap_ns, gap_at_ns;
static char boot_id[64];

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static void nap(long long ns)
{
    struct timespec t = {ns / NS, ns % NS};
    nanosleep(&t, NULL);
}

static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vdprintf(1, format, args);
    va_end(args);
}

static int read_file(const char *path, char *into, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, into, size - 1);
    if (fd >= 0)
        close(fd);
    into[got > 0 ? got : 0] = 0;
    into[strcspn(into, "\n")] = 0;
    return got > 0 ? 0 : -1;
}

/* --- set up -------------------------------------------------------------------------------- */

static void load_modules(void)
{
    static char list[4096];
    char *rest = list, *name;
    int fd = open("/modules/order", O_RDONLY);
    ssize_t got = fd < 0 ? 0 : read(fd, list, sizeof list - 1);
    if (fd >= 0)
        close(fd);
    list[got > 0 ? got : 0] = 0;
    while ((name = strsep(&rest, "\n"))) {
        char path[256];
        if (!*name)
            continue;
        snprintf(path, sizeof path, "/modules/%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
            say("module %s: %s\n", name, strerror(errno));
        if (fd >= 0)
            close(fd);
    }
}

static void read_options(void)
{
    char line[2048], *rest = line, *word;
    read_file("/proc/cmdline", line, sizeof line);
    while ((word = strsep(&rest, " "))) {
        sscanf(word, "twinship.tick_ms=%lld", &options.tick_ms);
        sscanf(word, "twinship.dirty=%lld", &options.dirty);
        sscanf(word, "twinship.hot=%lld", &options.hot);
        sscanf(word, "twinship.disk=%lld", &options.disk);
    }
    if (options.tick_ms < 1)
        options.tick_ms = 1;
    if (options.hot < PAGE)
        options.hot = PAGE;
}

/* --- memory -------------------------------------------------------------------------------- */

/* Each page carries a counter, its complement and the page's number: a page that was lost, torn or
 * taken from elsewhere on the way to another host does not match. */
static void *dirty_memory(void *unused)
{
    long long pages = options.hot / PAGE, due = 0, at = 0, last = now_ns();
    uint64_t *region = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)unused;
    if (region == MAP_FAILED) {
        say("no memory to dirty: %s\n", strerror(errno));
        return NULL;
    }
    for (long long page = 0; page < pages; page++) {
        uint64_t *word = region + page * (PAGE / 8);
        word[0] = 0, word[1] = ~0ULL, word[PAGE / 8 - 1] = page;
    }
    for (;;) {
        long long now = now_ns();
        /* A guest that stood still does not catch up: at most a tenth of a second is owed. */
        long long span = now - last > NS / 10 ? NS / 10 : now - last;
        last = now;
        due += options.dirty * span / 1000 / (NS / 1000);
        for (; due >= PAGE; due -= PAGE, at = (at + 1) % pages) {
            uint64_t *word = region + at * (PAGE / 8);
            if (word[0] != ~word[1] || word[PAGE / 8 - 1] != (uint64_t)at)
                memory_errors++;
            word[0]++, word[1] = ~word[0], word[PAGE / 8 - 1] = at;
            dirtied += PAGE;
        }
        nap(5000000);
    }
}

/* --- disks --------------------------------------------------------------------------------- */

/* Writes numbered blocks to the second half of each disk, direct and durable, and reads each back
 * a round later; the first half belongs to whoever made the disk. */
static void *write_disks(void *unused)
{
    int fd[26], count = 0;
    long long half[26], sequence = 0;
    uint64_t *block;
    (void)unused;
    if (posix_memalign((void **)&block, PAGE, PAGE))
        return NULL;
    for (char letter = 'a'; letter <= 'z'; letter++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/vd%c", letter);
        fd[count] = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
        if (fd[count] < 0)
            continue;
        half[count] = lseek(fd[count], 0, SEEK_END) / 2 / PAGE * PAGE;
        if (half[count] >= PAGE)
            count++;
    }
    disks = count;
    if (!count || options.disk <= 0)
        return NULL;
    for (;;) {
        long long began = now_ns(), took;
        pthread_mutex_lock(&disk_lock);
        for (int disk = 0; disk < count; disk++) {
            off_t at = half[disk] + sequence * PAGE % half[disk];
            long long before = sequence - half[disk] / PAGE;
            if (before >= 0 &&
                (pread(fd[disk], block, PAGE, at) != PAGE || block[0] != (uint64_t)before))
                disk_errors++;
            memset(block, 0x5a, PAGE);
            block[0] = sequence, block[1] = now_ns();
            if (pwrite(fd[disk], block, PAGE, at) == PAGE)
                disk_writes++;
            else
                disk_errors++;
        }
        pthread_mutex_unlock(&disk_lock);
        sequence++;
        took = now_ns() - began;
        if (took > longest_write_ns)
            longest_write_ns = took;
        long long rest = (long long)count * PAGE * NS / options.disk - took;
        if (rest > 0)
            nap(rest);
    }
}

/* --- ticks --------------------------------------------------------------------------------- */

static int cmos(int which)
{
    outb(which, 0x70);
    return inb(0x71);
}

static int from_bcd(int value) { return (value >> 4) * 10 + (value & 15); }

/* Seconds of the day by the CMOS clock; read twice until both agree. */
static int cmos_seconds(void)
{
    int before, after = -1;
    do {
        before = after;
        int hour = cmos(4), minute = cmos(2), second = cmos(0);
        after = from_bcd(hour) * 3600 + from_bcd(minute) * 60 + from_bcd(second);
    } while (after != before);
    return after;
}

/* CMOS second minus monotonic time, at the last boundary seen and at the one before. */
static long long offset, offset_before;

static void tick(void)
{
    static long long last;
    static int raw = -1, second = -1, boundaries;
    long long now = now_ns(), gap = last ? now - last : 0;
    int seen = cmos(0);
    if (seen != raw) {
        int of_day = cmos_seconds();
        long long fresh = of_day * NS - now;
        if (second >= 0 && of_day < second - 43200)
            offset -= 86400 * NS, offset_before -= 86400 * NS; /* midnight */
        /* After a stop the first new value is met anywhere in its second and shows too little of
         * the stop; the next one is met at its boundary: hence the look two back. Below 40 ms it is
         * our own lateness. */
        long long from = offset < offset_before ? offset : offset_before;
        if (boundaries >= 3 && fresh - from > 40000000)
            gap = fresh - from + options.tick_ms * 1000000;
        offset_before = offset, offset = fresh;
        raw = seen, second = of_day, boundaries++;
    }
    last = now;
    ticks++;
    if (gap > longest_gap_ns) {
        longest_gap_ns = gap;
        gap_at_ns = now;
    }
}

/* --- agent --------------------------------------------------------------------------------- */

static int open_agent(void)
{
    struct dirent *entry;
    DIR *dir = opendir("/sys/class/virtio-ports");
    int fd = -1;
    while (dir && fd < 0 && (entry = readdir(dir))) {
        char path[320], name[64];
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        if (entry->d_name[0] == '.' || read_file(path, name, sizeof name) ||
            strcmp(name, AGENT_PORT))
            continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    if (dir)
        closedir(dir);
    return fd;
}

static double in_s(long long ns) { return (double)ns / NS; }

static void report(char *into, size_t size)
{
    snprintf(into, size,
             "{\"up_s\": %.3f, \"ticks\": %lld, \"longest_gap_s\": %.3f, \"last_gap_at_s\": %.3f, "
             "\"dirtied_bytes\": %lld, \"memory_errors\": %lld, \"disk_writes\": %lld, "
             "\"disk_errors\": %lld, \"longest_write_s\": %.3f, \"boot_id\": \"%s\"}",
             in_s(now_ns()), ticks, in_s(longest_gap_ns), in_s(gap_at_ns), (long long)dirtied,
             (long long)memory_errors, (long long)disk_writes, (long long)disk_errors,
             in_s(longest_write_ns), boot_id);
}

static const char *const COMMANDS[] = {
    "guest-sync", "guest-sync-delimited", "guest-ping", "guest-info", "guest-get-time",
    "guest-get-host-name", "guest-shutdown", "guest-fsfreeze-status", "guest-fsfreeze-freeze",
    "guest-fsfreeze-thaw", "twinship-ticks"};

/* What stands behind "key": in a line of JSON; NULL if it is not there. */
static const char *value_of(const char *line, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(line, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    at += strspn(at, " \t");
    if (*at != ':')
        return NULL;
    return at + 1 + strspn(at + 1, " \t");
}

static void set_frozen(int wanted)
{
    if (wanted && !frozen) {
        pthread_mutex_lock(&disk_lock);
        sync();
    } else if (!wanted && frozen)
        pthread_mutex_unlock(&disk_lock);
    frozen = wanted;
}

static void info(char *into, size_t size)
{
    size_t used = snprintf(into, size, "{\"version\": \"micro\", \"supported_commands\": [");
    size_t count = sizeof COMMANDS / sizeof *COMMANDS;
    for (size_t i = 0; i < count; i++)
        used += snprintf(into + used, size - used,
                         "%s{\"name\": \"%s\", \"enabled\": true, \"success-response\": %s}",
                         i ? ", " : "", COMMANDS[i],
                         strcmp(COMMANDS[i], "guest-shutdown") ? "true" : "false");
    snprintf(into + used, size - used, "]}");
}

static void answer(int port, const char *line)
{
    char name[64] = "", body[4096] = "{}", out[4352];
    const char *execute = value_of(line, "execute");
    if (execute)
        sscanf(execute, "\"%63[^\"]\"", name);
    int delimited = !strcmp(name, "guest-sync-delimited");
    if (delimited || !strcmp(name, "guest-sync")) {
        const char *id = value_of(line, "id");
        snprintf(body, sizeof body, "%lld", id ? strtoll(id, NULL, 10) : 0);
    } else if (!strcmp(name, "guest-info"))
        info(body, sizeof body);
    else if (!strcmp(name, "guest-get-time")) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        snprintf(body, sizeof body, "%lld", t.tv_sec * NS + t.tv_nsec);
    } else if (!strcmp(name, "guest-get-host-name"))
        snprintf(body, sizeof body, "{\"host-name\": \"micro\"}");
    else if (!strcmp(name, "guest-fsfreeze-status"))
        snprintf(body, sizeof body, "\"%s\"", frozen ? "frozen" : "thawed");
    else if (!strcmp(name, "guest-fsfreeze-freeze") || !strcmp(name, "guest-fsfreeze-thaw")) {
        set_frozen(!strcmp(name, "guest-fsfreeze-freeze"));
        snprintf(body, sizeof body, "%d", disks);
    } else if (!strcmp(name, "twinship-ticks")) {
        report(body, sizeof body);
        const char *reset = value_of(line, "reset");
        if (reset && !strncmp(reset, "true", 4))
            longest_gap_ns = gap_at_ns = 0, offset_before = offset;
    } else if (!strcmp(name, "guest-shutdown")) {
        const char *mode = value_of(line, "mode");
        say("going down\n");
        sync();
        reboot(mode && !strncmp(mode, "\"reboot", 7) ? RB_AUTOBOOT : RB_POWER_OFF);
    } else if (strcmp(name, "guest-ping")) {
        snprintf(out, sizeof out,
                 "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"not known here\"}}\n");
        (void)!write(port, out, strlen(out));
        return;
    }
    snprintf(out, sizeof out, "%s{\"return\": %s}\n", delimited ? "\xff" : "", body);
    (void)!write(port, out, strlen(out));
}

static void read_agent(int port)
{
    static char line[LINE_BYTES];
    static size_t used;
    char data[1024];
    ssize_t got = read(port, data, sizeof data);
    for (ssize_t i = 0; i < got; i++) {
        if ((unsigned char)data[i] == 0xff) {
            used = 0; /* the host's way to say: forget what came before */
        } else if (data[i] == '\n') {
            line[used] = 0;
            if (used)
                answer(port, line);
            used = 0;
        } else if (used < sizeof line - 1)
            line[used++] = data[i];
    }
}

/* --- the loop ------------------------------------------------------------------------------ */

static void read_console(void)
{
    char typed[256], body[1024];
    if (read(0, typed, sizeof typed) > 0) {
        report(body, sizeof body);
        say("%s\n", body);
    }
}

int main(void)
{
    pthread_t thread;
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR | O_NOCTTY);
    for (int fd = 0; fd < 3; fd++)
        dup2(console, fd);
    read_options();
    load_modules();
    read_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
    if (ioperm(0x70, 2, 1))
        say("no CMOS clock: %s\n", strerror(errno));
    if (options.dirty > 0)
        pthread_create(&thread, NULL, dirty_memory, NULL);
    pthread_create(&thread, NULL, write_disks, NULL);
    int port = open_agent();
    say("twinship guest is up after %.1f s\n", in_s(now_ns()));
    for (;;) {
        struct pollfd ready[2] = {{.fd = 0, .events = POLLIN}, {.fd = port, .events = POLLIN}};
        tick();
        if (poll(ready, 2, 0) > 0) {
            if (ready[0].revents & POLLIN)
                read_console();
            if (ready[1].revents & POLLIN)
                read_agent(port);
        }
        nap(options.tick_ms * 1000000);
    }
}
