#include "lockstore/upstream/notify_stream.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/thread.h"

#define ERROR_BODY_MAX_BYTES 65536

struct event {
	enum notify_kind kind;
	char *path;
};

struct notify_stream {
	struct qumulo *qumulo;
	CURL *easy;			/* the thread's */
	struct curl_slist *headers;
	char *url;
	struct notify *notify;		/* likewise */
	int notify_error;
	char *body;			/* of an answer that is no stream */
	size_t body_len;
	time_t heard;
	pthread_t thread;
	atomic_bool stop;

	pthread_mutex_t lock;		/* guards what follows */
	pthread_cond_t room;
	struct event queue[NOTIFY_STREAM_QUEUE];
	unsigned first, count;
	bool up, over;
	CURLcode code;
	long status;
};

static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* ---- the thread ---- */

static int on_event(void *arg, const struct notify_event *event)
{
	struct notify_stream *s = arg;
	char *path = strdup(event->path);
	int r = 0;

	if (!path)
		return -ENOMEM;
	pthread_mutex_lock(&s->lock);
	while (s->count == NOTIFY_STREAM_QUEUE && !atomic_load(&s->stop)) {
		qumulo_wake(s->qumulo);
		pthread_cond_wait(&s->room, &s->lock);
	}
	if (atomic_load(&s->stop)) {
		free(path);
		r = -ECANCELED;
	} else {
		s->queue[(s->first + s->count++) % NOTIFY_STREAM_QUEUE] = (struct event){ event->kind, path };
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg)
{
	struct notify_stream *s = arg;
	size_t len = size * n;
	long status = 0;

	s->heard = now_s();
	curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) {
		if (len > ERROR_BODY_MAX_BYTES - s->body_len)
			return 0;
		memcpy(s->body + s->body_len, bytes, len);
		s->body_len += len;
		return len;
	}
	s->notify_error = notify_feed(s->notify, bytes, len);
	if (notify_is_registered(s->notify)) {
		pthread_mutex_lock(&s->lock);
		s->up = true;
		pthread_mutex_unlock(&s->lock);
	}
	qumulo_wake(s->qumulo);
	return s->notify_error ? 0 : len;
}

/* Asked once a second, whatever happens. */
static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct notify_stream *s = arg;

	return atomic_load(&s->stop) || now_s() - s->heard > NOTIFY_STREAM_SILENCE_S;
}

static void *run(void *arg)
{
	struct notify_stream *s = arg;
	long status = 0;
	CURLcode code;

	s->heard = now_s();
	code = curl_easy_perform(s->easy);
	curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
	pthread_mutex_lock(&s->lock);
	s->code = code;
	s->status = status;
	s->over = true;
	pthread_mutex_unlock(&s->lock);
	qumulo_wake(s->qumulo);
	return NULL;
}

/* ---- its owner ---- */

static void release(struct notify_stream *s)
{
	for (struct curl_slist *h = s->headers; h; h = h->next)
		OPENSSL_cleanse(h->data, strlen(h->data));	/* the token is among them */
	curl_slist_free_all(s->headers);
	if (s->easy)
		curl_easy_cleanup(s->easy);
	for (; s->count; s->count--, s->first++)
		free(s->queue[s->first % NOTIFY_STREAM_QUEUE].path);
	notify_close(s->notify);
	pthread_cond_destroy(&s->room);
	pthread_mutex_destroy(&s->lock);
	free(s->body);
	free(s->url);
	free(s);
}

static int prepare(struct notify_stream *s, const struct endpoint *endpoint, const char *token, const char *ref, bool recursive)
{
	char *bearer = NULL;

	s->easy = curl_easy_init();
	s->body = malloc(ERROR_BODY_MAX_BYTES);
	if (!s->easy || !s->body || notify_open(on_event, s, &s->notify) < 0)
		return -ENOMEM;
	if (asprintf(&s->url, "%s/v1/files/%s/notify?recursive=%s&filter=%s", endpoint->url, ref, recursive ? "true" : "false", notify_filter) < 0) {
		s->url = NULL;
		return -ENOMEM;
	}
	if (asprintf(&bearer, "Authorization: Bearer %s", token) < 0)
		return -ENOMEM;
	s->headers = curl_slist_append(NULL, bearer);
	OPENSSL_cleanse(bearer, strlen(bearer));
	free(bearer);
	if (!s->headers || curl_easy_setopt(s->easy, CURLOPT_URL, s->url) != CURLE_OK)
		return -ENOMEM;
	qumulo_set_transport(s->qumulo, s->easy);
	curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, s->headers);
	curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
	curl_easy_setopt(s->easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(s->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(s->easy, CURLOPT_XFERINFODATA, s);
	return 0;
}

int notify_stream_open(struct qumulo *qumulo, const struct endpoint *endpoint, const char *token, const char *ref, bool recursive,
		      struct notify_stream **ret_stream)
{
	struct notify_stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->qumulo = qumulo;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->room, NULL);
	r = prepare(s, endpoint, token, ref, recursive);
	if (r == 0)
		r = thread_start(&s->thread, "push-notify", run, s);
	if (r < 0) {
		release(s);
		return r;
	}
	*ret_stream = s;
	return 0;
}

void notify_stream_close(struct notify_stream *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->stop, true);
	pthread_cond_broadcast(&s->room);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	release(s);
}

bool notify_stream_take(struct notify_stream *s, enum notify_kind *ret_kind, char **ret_path)
{
	bool there;

	pthread_mutex_lock(&s->lock);
	there = s->count > 0;
	if (there) {
		*ret_kind = s->queue[s->first].kind;
		*ret_path = s->queue[s->first].path;
		s->first = (s->first + 1) % NOTIFY_STREAM_QUEUE;
		s->count--;
		pthread_cond_signal(&s->room);
	}
	pthread_mutex_unlock(&s->lock);
	return there;
}

bool notify_stream_is_up(struct notify_stream *s)
{
	bool up;

	pthread_mutex_lock(&s->lock);
	up = s->up;
	pthread_mutex_unlock(&s->lock);
	return up;
}

bool notify_stream_is_over(struct notify_stream *s, struct upstream_reply *ret_reply)
{
	bool over;

	pthread_mutex_lock(&s->lock);
	over = s->over && s->count == 0;
	pthread_mutex_unlock(&s->lock);
	if (!over)
		return false;
	/* The thread has done its last: what was its own may be looked at. */
	if (s->status != 200 && s->status != 0 &&
	    upstream_reply_parse(UPSTREAM_ATTRIBUTES, (int)s->status, s->body, s->body_len, ret_reply) == 0)
		return true;
	*ret_reply = (struct upstream_reply){ .outcome = UPSTREAM_AWAY };
	snprintf(ret_reply->text, sizeof(ret_reply->text), "%s", s->notify_error ? notify_error(s->notify) :
		 s->code == CURLE_ABORTED_BY_CALLBACK ? "nothing was heard for too long" :
		 s->code == CURLE_OK ? "the cluster ended it" : curl_easy_strerror(s->code));
	return true;
}
