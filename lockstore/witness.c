#include "lockstore/witness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/retention.h"

/* The date behind `word` in a detail such as "close: until D, governance" or "uid 0: until D, was D; reason: ...": the first
 * one, since what people wrote comes last. */
static bool date_after(const char *detail, const char *word, int64_t *ret_s)
{
	const char *at = strstr(detail, word);
	char text[RETENTION_TEXT_BYTES + 1];
	struct retention date;
	size_t len;

	if (!at)
		return false;
	at += strlen(word);
	len = strcspn(at, ",;: ");
	/* A time has colons; a word behind it begins with a blank. */
	while (at[len] == ':' && at[len + 1] >= '0' && at[len + 1] <= '9')
		len += 1 + strcspn(at + len + 1, ",;: ");
	if (len == 0 || len >= sizeof(text))
		return false;
	memcpy(text, at, len);
	text[len] = '\0';
	if (retention_parse(text, &date) < 0 || date.kind == RETENTION_PERIOD)
		return false;
	*ret_s = retention_until(&date, 0);
	return true;
}

static void take_date(struct witness_lock *lock, const char *detail, const char *word)
{
	int64_t until_s;

	if (date_after(detail, word, &until_s)) {
		lock->until_s = until_s;
		lock->flags |= WITNESS_DATED;
	} else {
		lock->flags &= ~(uint32_t)WITNESS_DATED;
	}
}

static bool takes_part(enum audit_event event)
{
	return event == AUDIT_COMMIT || event == AUDIT_EXTEND || event == AUDIT_SHORTEN || event == AUDIT_DELETE_EXPIRED ||
	       event == AUDIT_DELETE_PRIVILEGED;
}

/* The names behind ", hold " in "close: until D, governance, hold A". */
static const char *names_of_commit(const char *detail)
{
	const char *at = strstr(detail, ": until "), *mode = at ? strchr(at, ',') : NULL;

	at = mode ? strchr(mode + 1, ',') : NULL;
	return at && strncmp(at, ", hold ", strlen(", hold ")) == 0 ? at + strlen(", hold ") : NULL;
}

enum witness_hold witness_hold_of(const struct witness_line *line, const char **ret_names)
{
	const char *names = NULL;

	if (line->event == AUDIT_COMMIT && !line->refused)
		names = names_of_commit(line->detail);
	else if ((line->event == AUDIT_HOLD_ADD || line->event == AUDIT_HOLD_RELEASE) && strncmp(line->detail, "case ", strlen("case ")) == 0)
		names = line->detail + strlen("case ");
	if (!names || !*names)
		return WITNESS_HOLD_NONE;
	*ret_names = names;
	return line->refused ? WITNESS_HOLD_TRIED : line->event == AUDIT_HOLD_RELEASE ? WITNESS_HOLD_RELEASED : WITNESS_HOLD_PLACED;
}

void witness_fold(struct witness_lock *lock, const struct witness_line *line)
{
	const char *names;
	bool failed = line->refused && strncmp(line->detail, "refused to ", strlen("refused to ")) != 0;

	if (line->refused && !failed)
		return;
	if (strlen(line->detail) + 1 >= AUDIT_DETAIL_BYTES && witness_hold_of(line, &names) != WITNESS_HOLD_NONE)
		lock->flags |= WITNESS_HOLDS_CUT;
	if (takes_part(line->event) && lock->seq && lock->key_hash != line->key_hash)
		lock->flags |= WITNESS_AMBIGUOUS;	/* a copy with the same record, a restored file, or an older share's */
	switch (line->event) {
	case AUDIT_COMMIT:
		if (line->refused)
			return;
		lock->flags |= WITNESS_COMMITTED;
		lock->commit_seq = line->seq;
		take_date(lock, line->detail, ": until ");
		break;
	case AUDIT_EXTEND:
		if (line->refused)
			return;
		take_date(lock, line->detail, "until ");
		break;
	case AUDIT_SHORTEN:	/* written before it is done; when it failed, a second line */
		take_date(lock, line->detail, failed ? ", was " : "until ");
		break;
	case AUDIT_DELETE_EXPIRED:
	case AUDIT_DELETE_PRIVILEGED:	/* likewise */
		lock->flags = failed ? lock->flags & ~(uint32_t)WITNESS_DELETED : lock->flags | WITNESS_DELETED;
		break;
	default:
		return;
	}
	lock->seq = line->seq;
	lock->key_hash = line->key_hash;
}

void witness_cover_fini(struct witness_cover *cover)
{
	free(cover->spans);
	*cover = (struct witness_cover){ 0 };
}

void witness_cover_gap(struct witness_cover *cover, uint64_t seq)
{
	cover->gap_seq = seq;
	cover->nspans = 0;
	cover->running = false;
}

static int begin_span(struct witness_cover *cover, int64_t at_s, bool holds)
{
	struct witness_span *grown;

	if (cover->nspans == WITNESS_MOUNTS_MAX) {
		cover->nspans /= 2;
		memmove(cover->spans, cover->spans + cover->nspans, cover->nspans * sizeof(*cover->spans));
	}
	grown = reallocarray(cover->spans, cover->nspans + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	cover->spans = grown;
	cover->spans[cover->nspans++] = (struct witness_span){ at_s, at_s, holds };
	cover->running = true;
	return 0;
}

/* At the end: what is before it has names that people chose. */
static bool ends_with(const char *detail, const char *end)
{
	size_t len = strlen(detail), end_len = strlen(end);

	return len >= end_len && strcmp(detail + len - end_len, end) == 0;
}

int witness_cover_line(struct witness_cover *cover, const struct witness_line *line)
{
	struct witness_span *last = cover->nspans ? &cover->spans[cover->nspans - 1] : NULL;
	bool holds;

	switch (line->event) {
	case AUDIT_MOUNT:
		if (cover->running)
			last->to_s -= WITNESS_TAIL_S;	/* it was killed */
		cover->running = false;
		holds = ends_with(line->detail, WITNESS_COVERS_HOLDS WITNESS_COVERS);
		if (!holds)
			cover->hold_gap_seq = line->seq;
		if (ends_with(line->detail, WITNESS_COVERS))
			return begin_span(cover, line->clock_s, holds);
		witness_cover_gap(cover, line->seq);
		return 0;
	case AUDIT_LOG_LOST:
		witness_cover_gap(cover, line->seq);
		return 0;
	default:
		break;
	}
	if (cover->running && line->clock_s > last->to_s)
		last->to_s = line->clock_s;
	if (line->event == AUDIT_UNMOUNT)
		cover->running = false;
	return 0;
}

static bool covers(const struct witness_cover *cover, int64_t at_s, bool ended, bool holds)
{
	for (size_t i = cover->nspans; i-- > 0; ) {
		const struct witness_span *span = &cover->spans[i];
		int64_t tail_s = ended && cover->running && i == cover->nspans - 1 ? WITNESS_TAIL_S : 0;

		if (at_s > span->from_s && at_s < span->to_s - tail_s)
			return span->holds || !holds;
	}
	return false;
}

bool witness_covers(const struct witness_cover *cover, int64_t committed_s, bool ended)
{
	return covers(cover, committed_s, ended, false);
}

int witness_say_hold(const struct witness_cover *cover, enum witness_hold what, uint64_t seq, bool in_ledger, int64_t at_s, bool ended)
{
	if (!in_ledger)
		return what == WITNESS_HOLD_PLACED && seq > cover->gap_seq && seq > cover->hold_gap_seq ? HOLD_NOT_IN_LEDGER : HOLD_AGREES;
	if (what == WITNESS_HOLD_PLACED || what == WITNESS_HOLD_TRIED || !covers(cover, at_s, ended, true))
		return HOLD_AGREES;
	return what == WITNESS_HOLD_RELEASED ? HOLD_RELEASED : HOLD_NOT_IN_LOG;
}

void witness_say(const struct witness_cover *cover, const struct witness_lock *lock, int64_t committed_s, int64_t now_s, bool ended,
		 struct verify_log *ret)
{
	bool clear = !(lock->flags & WITNESS_AMBIGUOUS), complete = clear && lock->seq > cover->gap_seq;

	*ret = (struct verify_log){ .seq = lock->seq, .until_s = lock->until_s };
	ret->unlogged = clear && !(lock->flags & WITNESS_COMMITTED) && witness_covers(cover, committed_s, ended);
	ret->dated = complete && lock->flags & WITNESS_DATED;
	ret->deleted = lock->flags & WITNESS_DELETED;
	ret->retained = ret->dated && !ret->deleted && (lock->until_s == RETENTION_UNSPECIFIED || lock->until_s > now_s);
}
