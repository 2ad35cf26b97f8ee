/* What the daemon and its clients say to each other. Two doors, one vocabulary:
 *
 * 1. Extended attributes through the mount. Anybody who may reach the file reads
 *      user.worm.state      open | staging | pending | closing | settling | appendable | retained | expired | unreadable | pinned | held
 *                           (pending: written, not locked yet, on the list of the sweep; retained: a date ahead, infinite, unspecified, or a hold; pinned: a directory above a lock;
 *                           settling: retained, all but its data may still be set;
 *                           held: not locked yet, and an order for what comes will put it under a hold with its lock)
 *      user.worm.until      RFC 3339 UTC, "infinite" or "unspecified"      (committed files only, else ENODATA)
 *      user.worm.mode       governance | compliance                        (likewise)
 *      user.worm.holds      names, one a line; "" without a hold           (likewise)
 *      user.worm.committed  RFC 3339 UTC                                   (likewise)
 *      user.worm.serial     decimal                                        (likewise)
 *      user.worm.rule       name of the rule, "mount options" without one  (likewise)
 *      user.worm.sha256     lower case hexadecimal                         (likewise; ENODATA until it was taken)
 *      user.worm.push       locked | pending[: why] | failed: why | off: what a cluster has of it  (likewise)
 *      user.worm.explain    JSON: everything above and why, see below      (any file or directory)
 *      user.worm.mount      JSON: what daemon this is, see below           (any file or directory)
 *    They are not listed by listxattr(2), so that no copy carries them away. Requests are
 *      user.worm.commit = "1"        lock now; EBUSY while a writer exists
 *      user.worm.append = "1"        make it append-only: an empty or unlocked file that nobody else has open, else EBUSY;
 *                           EPERM: it is locked already; 0 when it is append-only
 *      user.worm.until  = a date or period as retention_parse() reads it (a period counts from now):
 *                           extend; equal: 0 and no change; earlier: EPERM; out of min/max: EINVAL
 *    Every other set or remove of user.worm.* is EPERM.
 *
 * 2. The control socket, CONTROL_SOCKET in the state directory, mode 0600: privileged requests. The peer
 *    (SO_PEERCRED) must be root or the daemon's own uid. With -o hold_role the directory is 0711, the socket 0666, and who
 *    has the role may ask what is marked (h). One JSON object a line, at most CONTROL_LINE_MAX
 *    bytes; the answer is one line as well, {"ok":true,...} or {"ok":false,"errno":"EPERM","error":"one sentence"}.
 *    `reindex` sends {"progress":{...}} lines before its answer. Any number of requests on one connection.
 *      {"verb":"mount"}                              as user.worm.mount, inside "mount"
 *      {"verb":"explain","path":P}                   as user.worm.explain, inside "file"
 *      {"verb":"commit","path":P}
 *      {"verb":"append","path":P}                    as user.worm.append
 *      {"verb":"extend","path":P,"until":T}          answer has "until"
 *      {"verb":"hold","path":P,"case":C}         (h) EEXIST: has it already. Any committed file; others EINVAL
 *      {"verb":"release","path":P,"case":C}      (h) ENOENT: has it not
 *      {"verb":"order-new","case":C,"reason":TEXT,"future":bool}  (h) answer has "order", and "unfinished": an order of this
 *                           case is being worked on
 *      {"verb":"order-add","order":N,"paths":[P,...],"tree":bool,"release":bool}  (h) answer has "failed":[{"path","errno","error"},...]
 *                           and "have":[P,...]: those are under the hold already
 *      {"verb":"order-run","order":N,"release":bool}  (h) sends {"progress":{"phase":"checking|placing|releasing|waiting","files":N}}
 *                           and {"progress":{"failed":{...}}}; answer has "changed", "unchanged", "waiting", "failed", "bytes", "ended".
 *                           EINVAL: some cannot be held, nothing was placed
 *      {"verb":"order-drop","order":N}           (h) before it is run
 *      {"verb":"delete","path":P,"reason":TEXT}      privdel=on, governance, no hold; answer may have "pending":N and "expires"
 *                           instead of being done (-o approve). EPERM, EINVAL: not locked, or no reason; EBUSY, EIO: no proof
 *      {"verb":"shorten","path":P,"until":T,"reason":TEXT}  likewise; answer has "until". EINVAL: no earlier date
 *      {"verb":"expire","path":P}                    deletes it if it is expired, all its names. EPERM: it is not
 *      {"verb":"requests"}                       (a) answer has "requests":[{"id","verb","path","until","reason","by","at","expires"},...]
 *      {"verb":"approve","id":N}                 (a) only whom -o approve names, not root by itself. EPERM: his own; ETIME: too late
 *      {"verb":"clock_accept","reason":T}            answer has "gained" (seconds) and "now". EALREADY: the clock is not
 *                                                    behind the system's date; EPERM: compliance mode, and the date is
 *                                                    not synchronised; EOPNOTSUPP: not a clock of its own
 *    (a): whom -o approve names may ask, too. mount, explain and sync are for (h) and (a)
 *      {"verb":"sync"}                               answers when the ledger has everything done before; it waits a little
 *                                                    for files that are closing, but with "closing":false
 *      {"verb":"lower"}                              answer comes with a descriptor (SCM_RIGHTS): the root of the share below the mount
 *      {"verb":"reindex"}                            answer has "stats" (names of struct reindex_stats)
 *      {"verb":"policy","from":N}                    rules in force from number N on (0: the first; the last is the mount
 *                                                    options): answer has "file" (null: no -o rules), "count", "rules"
 *                                                    (lockstore/policy_json.h) and "next": where to go on, or null
 *      {"verb":"policy-test","path":P,"uid":N,"gid":N,"size":N}   answer has "test": which rule, why, what would happen.
 *                                                    P need not exist; numbers that are not given are the file's own
 *      {"verb":"policy-reload"}                      answer has "file", "count", and "open": files that keep the old rules
 *      {"verb":"verified","files":N,"bytes":N,"errors":N,"kinds":{NAME:N,...},"below":P}  a line "verify" in the audit log; kinds:
 *                           findings, by verify_kind_name()
 *      {"verb":"push-retry","path":P,"again":bool}   P is due now, and pushed from now on; again: what was proven is asked for
 *                                                    again. Without a path: all that failed. Answer has "files"
 *      {"verb":"quota","from":N}                     limits of our own, from section N on: answer has "file" (null: no -o quota), "sections"
 *                                                    (lockstore/limit_json.h) and "next": where to go on, or null
 *      {"verb":"quota-recount"}                      the next mount counts anew
 *    "by": the peer's uid is taken from the socket, never from the request. Arguments have the types of the table in
 *    fs/control_request.c, and all are checked before anything is done (EINVAL); those that no verb has are not looked at.
 *    P is relative to the share's root, "" is the root itself; bytes outside 0x21-0x7e and '%' itself are
 *    written %XX (control_path_encode).
 *
 * user.worm.mount:
 *   {"version","pid","share","mountpoint","state_dir","share_id","uid","clock","now":RFC3339,"key":null|path,
 *    "mode","retention":text,"min","max","hold":null|text,"commit":"close|idle:N|chmod|explicit|never","rules":null|{"file","count"},"sync":"follow|close",
 *    "shared":bool,"privdel":"off|on|never",
 *    "transport":{"io_uring":bool,"io_uring_why":text,"passthrough":bool,"passthrough_why":text,"splice":bool,"libfuse":text},
 *    "lower":{"xattr":bool,"namespace":"trusted|user","handles":bool,"leases":bool,"birth_time":bool,"filesystem":text},
 *    "ledger":{"state":"ok|behind|failing|readonly","queued":N,"written":N,"dropped":N,"error":text|null},
 *    "audit":{"state":"ok|failing|off"; unless off: "seq":N (of the last line),"written":N,"queued":N,"lost":N,"repeats":N,
 *             "bytes":N,"error":text|null},
 *    "events":{"state":"ok|failing|off"; unless off: "strict":bool,"noted":N,"dropped":N,"oldest":N,"next":N,"bytes":N,"error":text|null,
 *             "sinks":[{"name","seq" (its next),"sent","dropped","missed","error":text|null},...]},
 *    "clock_state":{"state":"ok|skewed|movable","system":RFC3339,"behind":N (seconds that the system's date is ahead of
 *             "now"),"budget":N|null (seconds it may still be believed),"synchronised":bool (says the kernel)},
 *    "quota":null|{"file","sections":N,"soft":N,"over":N (so many are in these states),"refused":N (since mount),"recount":bool (the next mount
 *             counts anew)},
 *    "inodes":N,"descriptors":{"open":N,"limit":N},"writers":N,"closing":N,
 *    "locked":N,"refused":{op:N,...},"digest":{"enabled":bool,"pending":N,"done":N,"failed":N},
 *    "push":null|{"target","root","state":"ok|away|refused","reason":text|null,"since","next_try","in_flight":N,"waiting":N,"failed":N (in the
 *             ledger),"told":N,"refused":N,"requests":N (since mount),"skew":seconds|null,"insecure":bool,"wait":N,
 *             "credentials":null|path,"ca":null|path,"undated":null|text,
 *             "check":null|{"connection","version","privilege","root","clock": as `wormctl push check` has it}},"problems":[text,...]}       numbers since mount; problems: what needs a person
 * user.worm.explain:
 *   {"path":P,"state","why":sentence,"until":null|text,"mode":null|text,"holds":[...],"committed":null|text,
 *    "serial":null|N,"size":N,"rule":null|text,"sha256":null|text,"digest":null|"taken|pending|off by its rule|off on this mount","refused":[operation names],"allowed":[operation names],
 *    "suspect":null|sentence,"settles":null|text,"cause":null|text,"push":null|{"state":"pending|locked|failed|off","until","hold" (what the cluster has),"want","want_hold",
 *             "status","error_class","error","attempts","next_try"}}
 */
#ifndef WORMFS_CONTROL_H
#define WORMFS_CONTROL_H

#include <stddef.h>

#define CONTROL_SOCKET "control"
#define CONTROL_LINE_MAX 65536		/* bytes, with the newline */
#define CONTROL_CLIENTS_MAX 16		/* connections at once; more wait in the listen queue */

#define XATTR_WORM_PREFIX "user.worm."
#define XATTR_WORM_EXPLAIN XATTR_WORM_PREFIX "explain"
#define XATTR_WORM_MOUNT XATTR_WORM_PREFIX "mount"

/* Paths as the protocol writes them. The caller frees *ret_text. -ENOMEM. */
int control_path_encode(const char *path, char **ret_text);
/* -EINVAL: a bad %XX, a NUL, a leading or trailing '/', an empty, "." or ".." component. */
int control_path_decode(const char *text, char **ret_path);

#endif
