/* Asks a fact port over and over, and prints what became of each request.
 *
 *     load HOST PORT CLIENTS PAUSE_MS SECONDS LIMIT_MS
 *
 * Each client has one request open at a time, gives it up after LIMIT_MS, and pauses before its
 * next; their first ones are spread over a pause. The program prints "begun", asks for SECONDS or until SIGTERM, lets what is
 * open end (SIGINT: gives it up), and prints a line for each request: "BEGAN ENDED OWNER", the times in microseconds of
 * CLOCK_MONOTONIC, OWNER the first byte of the fact or "!" where there was not one whole line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 1024, REQUESTS = 1 << 23, LEAVE_US = 15000000, REFUSED_US = 1000, BATCH = 256 };

struct client { int fd; long began_us, again_us; char first, last; };

static struct { long began_us, ended_us; char owner; } asked[REQUESTS];
static struct client clients[CLIENTS];
static struct sockaddr_in server = {.sin_family = AF_INET};
static long made, pause_us, limit_us;
static int epoll, open_now;
static volatile sig_atomic_t told;

static void on_signal(int number) { told = number; }

static long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static void end(struct client *c, int good) {
    long now = now_us();
    close(c->fd);
    c->fd = -1;
    open_now--;
    asked[made].began_us = c->began_us;
    asked[made].ended_us = now;
    asked[made++].owner = good ? c->first : '!';
    c->again_us = now + pause_us;
    if (!good && pause_us < REFUSED_US) c->again_us = now + REFUSED_US;
}

static void dial(struct client *c) {
    struct epoll_event event = {EPOLLIN, {.ptr = c}};
    c->first = c->last = 0;
    c->began_us = now_us();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    open_now++;
    if (connect(c->fd, (void *)&server, sizeof server) && errno != EINPROGRESS) {
        if (errno == EADDRNOTAVAIL) { perror("load: connect"); exit(1); }
        end(c, 0);
    } else if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) {
        perror("load: epoll_ctl"); exit(1);
    }
}

static void hear(struct client *c) {
    char bytes[4096];
    ssize_t count;
    while ((count = read(c->fd, bytes, sizeof bytes)) > 0) {
        if (!c->first) c->first = bytes[0];
        c->last = bytes[count - 1];
    }
    if (count == 0 || errno != EAGAIN) end(c, count == 0 && c->last == '\n');
}

/* Dial for those whose pause is over; return the ms until the next one's is. */
static int dial_due(int count) {
    long now = now_us(), next = now + 100000;
    for (struct client *c = clients; c < clients + count; c++) {
        if (c->fd >= 0 && c->began_us + limit_us <= now) end(c, 0);
        if (c->fd < 0 && c->again_us <= now) dial(c);
        if (c->fd < 0 && c->again_us < next) next = c->again_us;
    }
    return next <= now ? 0 : (int)((next - now + 999) / 1000);
}

int main(int argc, char **argv) {
    if (argc != 7 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) return 2;
    int count = atoi(argv[3]);
    double seconds = atof(argv[5]);
    if (count < 1 || count > CLIENTS) return 2;
    server.sin_port = htons(atoi(argv[2]));
    pause_us = atol(argv[4]) * 1000;
    limit_us = atol(argv[6]) * 1000;
    epoll = epoll_create1(0);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_signal}, NULL);
    puts("begun");
    fflush(stdout);
    struct epoll_event events[BATCH];
    long began_us = now_us(), stop_us = began_us + (long)(seconds * 1e6), leave_us = 0;
    for (int i = 0; i < count; i++)
        clients[i] = (struct client){.fd = -1, .again_us = began_us + i * pause_us / count};
    while (!leave_us || (open_now && now_us() < leave_us)) {
        int wait_ms = 100;
        if (!leave_us && (told || now_us() >= stop_us || made > REQUESTS - 2 * CLIENTS))
            leave_us = now_us() + (told == SIGINT ? 0 : LEAVE_US);
        if (!leave_us) wait_ms = dial_due(count);
        int ready = epoll_wait(epoll, events, BATCH, wait_ms);
        for (int i = 0; i < ready; i++) hear(events[i].data.ptr);
    }
    for (int i = 0; i < count; i++)
        if (clients[i].fd >= 0) end(&clients[i], 0);
    for (long i = 0; i < made; i++)
        printf("%ld %ld %c\n", asked[i].began_us, asked[i].ended_us, asked[i].owner);
    return 0;
}
