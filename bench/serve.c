/* The least that a fact server has to do, as the measure for the others.
 *
 *     serve ADDRESS PORT FACTS */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FACTS = 10000, BACKLOG = 4096 };

static struct { char *text; size_t room; ssize_t length; } facts[FACTS];

int main(int argc, char **argv) {
    struct sockaddr_in here = {.sin_family = AF_INET};
    if (argc != 4 || inet_pton(AF_INET, argv[1], &here.sin_addr) != 1) return 2;
    here.sin_port = htons(atoi(argv[2]));
    FILE *file = fopen(argv[3], "r");
    if (!file) { perror(argv[3]); return 1; }
    int count = 0;
    while (count < FACTS
           && (facts[count].length = getline(&facts[count].text, &facts[count].room, file)) > 0)
        count++;
    if (!count) return 1;

    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&here, sizeof here) || listen(listener, BACKLOG)) {
        perror("serve: listen"); return 1;
    }
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        epoll_wait(epoll, &event, 1, -1);
        for (int client; (client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
            int i = random() % count;
            if (send(client, facts[i].text, facts[i].length, MSG_NOSIGNAL) < 0) perror("serve: send");
            close(client);
        }
    }
}
