"""A function that nobody calls: the cron trigger does."""


def init_context(context):
    context.user_data.beats = 0


def handler(context, event):
    context.user_data.beats += 1
    context.logger.info_with(event.body.decode(), beat=context.user_data.beats,
                             due=event.get_header("x-stator-scheduled-time"))
    return f"beat {context.user_data.beats}\n"
