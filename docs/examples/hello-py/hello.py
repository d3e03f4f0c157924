"""The smallest function in Python: GET is greeted, anything else is greeted by name."""


def handler(context, event):
    name = event.body.decode().strip() or "world"
    context.logger.info_with("Greeting", name=name)
    return f"Hello, {name}!\n"
