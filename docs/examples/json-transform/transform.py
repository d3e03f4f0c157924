"""Orders in, totals out. A body of type application/json arrives parsed, a dict leaves as JSON."""


def handler(context, event):
    if not isinstance(event.body, dict) or "items" not in event.body:
        return 400, {"error": "expected a JSON object with items"}
    lines = [
        {"sku": item["sku"].upper(), "total": round(item["price"] * item.get("count", 1), 2)}
        for item in event.body["items"]
    ]
    return {"lines": lines, "total": round(sum(line["total"] for line in lines), 2)}
