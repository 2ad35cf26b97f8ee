/* Change notification. Not served yet: the endpoints answer 404. */
#include "mockarchive/mockqumulo/notify.h"

#include "mockarchive/mockqumulo/mock.h"

int notify_open(struct mock *mock, struct notify **ret_notify)
{
	*ret_notify = NULL;
	return 0;
}

void notify_close(struct notify *n)
{
}

void notify_request(struct exchange *x, struct found *dir)
{
	exchange_refuse(x, 404, "rest_not_found_error", "no such endpoint");
}

void notify_settings(struct exchange *x)
{
	exchange_refuse(x, 404, "rest_not_found_error", "no such endpoint");
}
