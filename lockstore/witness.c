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

void witness_fold(struct witness_lock *lock, const struct witness_line *line)
{
	bool failed = line->refused && strncmp(line->detail, "refused to ", strlen("refused to ")) != 0;

	if (line->refused && !failed)
		return;
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

static int begin_span(struct witness_cover *cover, int64_t at_s)
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
	cover->spans[cover->nspans++] = (struct witness_span){ at_s, at_s };
	cover->running = true;
	return 0;
}

static bool says_that_it_covers(const char *detail)
{
	size_t len = strlen(detail), end = strlen(WITNESS_COVERS);

	return len >= end && strcmp(detail + len - end, WITNESS_COVERS) == 0;
}

int witness_cover_line(struct witness_cover *cover, const struct witness_line *line)
{
	struct witness_span *last = cover->nspans ? &cover->spans[cover->nspans - 1] : NULL;

	switch (line->event) {
	case AUDIT_MOUNT:
		if (cover->running)
			last->to_s -= WITNESS_TAIL_S;	/* it was killed */
		cover->running = false;
		if (says_that_it_covers(line->detail))
			return begin_span(cover, line->clock_s);
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

bool witness_covers(const struct witness_cover *cover, int64_t committed_s, bool ended)
{
	for (size_t i = cover->nspans; i-- > 0; ) {
		const struct witness_span *span = &cover->spans[i];
		int64_t tail_s = ended && cover->running && i == cover->nspans - 1 ? WITNESS_TAIL_S : 0;

		if (committed_s > span->from_s && committed_s < span->to_s - tail_s)
			return true;
	}
	return false;
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
