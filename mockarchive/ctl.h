/* `mockarchive ctl`: what the control port does, as a command. A thin client: each command is one or two HTTP requests. */
#ifndef WORMFS_MOCKARCHIVE_CTL_H
#define WORMFS_MOCKARCHIVE_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* argv[0] is "ctl". The exit status: 0 done, 1 waited in vain, 2 could not. */
int ctl_main(int argc, char **argv);

/* ---- ctl_http.c: the way to an instance ---- */

struct ctl_client;

/* url NULL: $MOCKARCHIVE_URL, else the instance whose socket is in the run directory; with `mount`, the one of that mountpoint. Says
 * on stderr why there is none. 0 or -errno. */
int ctl_client_open(const char *url, const char *mount, struct ctl_client **ret_client);
void ctl_client_close(struct ctl_client *client);
/* *ret_status is HTTP's; *ret_text (the caller's) has a NUL after it. An error that kept it from an answer is said on stderr. */
int ctl_request(struct ctl_client *client, const char *method, const char *path, const json_t *body, long *ret_status, char **ret_text);
/* Every line that the server pushes, until it ends. */
int ctl_follow(struct ctl_client *client, const char *path, void (*line)(void *arg, const char *text), void *arg);

/* ---- ctl_show.c: for people ---- */

enum ctl_view { CTL_VIEW_PLAIN, CTL_VIEW_HSM_STATE, CTL_VIEW_DSMLS, CTL_VIEW_DMATTR, CTL_VIEW_EOS };
bool ctl_view_parse(const char *name, enum ctl_view *ret_view);
void ctl_show_files(FILE *out, const json_t *files, enum ctl_view view);
void ctl_show_file(FILE *out, const json_t *file);
void ctl_show_state(FILE *out, const json_t *state);
void ctl_show_drives(FILE *out, const json_t *drives);
void ctl_show_faults(FILE *out, const json_t *faults);
void ctl_show_clock(FILE *out, const json_t *clock);
void ctl_show_settings(FILE *out, const json_t *settings);
void ctl_show_event(FILE *out, const json_t *event);

#endif
