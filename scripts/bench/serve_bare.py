"""A bare ASGI application with the JSON work of one inference request and no model: `serve_bare.py PORT`."""

import sys

import numpy as np
import orjson
import uvicorn

ANSWER = np.zeros((1, 10), np.float32)


async def app(scope, receive, send):
    """Parse, make the array, answer with one of the output's shape."""
    if scope["type"] != "http":
        return
    body = (await receive())["body"]
    parsed = orjson.loads(body)
    (tensor,) = parsed["inputs"]
    x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    output = {"name": "predict", "shape": [len(x), 10], "datatype": "FP32", "data": ANSWER.reshape(-1)}
    reply = {"model_name": "bench", "model_version": "1", "outputs": [output]}
    content = orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False, log_config=None, lifespan="off")
