/* Between the client (qumulo.c) and its calls (qumulo_calls.c); nobody else includes it. */
#ifndef WORMFS_QUMULO_PRIVATE_H
#define WORMFS_QUMULO_PRIVATE_H

#include "lockstore/upstream/qumulo.h"

/* Starts a call that is filled in; on failure it is emptied. A path of NULL: -ENOMEM. */
int qumulo_start(struct qumulo *qumulo, struct qumulo_call *call);
/* Path and body go; a login's has the password. */
void qumulo_call_fini(struct qumulo_call *call);
/* Fills in a login. -ENOMEM. */
int qumulo_ask_login(struct qumulo_call *call, const char *user, const char *password);

#endif
