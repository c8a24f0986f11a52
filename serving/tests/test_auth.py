"""Who may ask: keys, tokens, scopes, buckets and TLS, of a real server and against clocks that jump."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hmac
import http.client
import http.server
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from hashlib import sha256
from urllib.parse import unquote

import grpc
import jwt
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tensors import tensor

from arsenal_serving.calls import INFER, LIVE, METRICS, READ, Call, Stop
from arsenal_serving.export import export
from arsenal_serving.protocols import http1, protos
from arsenal_serving.refused import Refused
from arsenal_serving.security import api_keys, auth, tls
from arsenal_serving.security.api_keys import Keys
from arsenal_serving.security.clock import PATIENCE, Clock
from arsenal_serving.security.principal import Rate, may_go_on
from arsenal_serving.security.tokens import ASK_AGAIN, LEEWAY, RENEW, Tokens, Wrong, key_set

POOL = protos.pool()
ISSUER, AUDIENCE = "https://issuer.example", "arsenal"
PEM, PKCS8, PLAIN = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
CURVE, EDWARDS, STRANGER = ec.generate_private_key(ec.SECP256R1()), *(ed25519.Ed25519PrivateKey.generate() for _ in "ab")
PRIVATE = {"rsa": RSA, "ec": CURVE, "ed": EDWARDS}
ALGORITHM = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwks(**private) -> bytes:
    made = []
    for kid, key in private.items():
        of = {rsa.RSAPrivateKey: "RSA", ec.EllipticCurvePrivateKey: "EC"}
        kind = next((name for cls, name in of.items() if isinstance(key, cls)), "OKP")
        algorithm = getattr(jwt.algorithms, f"{kind}Algorithm")
        made.append(json.loads(algorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"})
    return json.dumps({"keys": made}).encode()


class Time:
    """A wall clock and a monotonic one, moved by hand."""

    def __init__(self) -> None:
        self.wall, self.passed = 1_800_000_000.0, 1000.0

    def move(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.passed)


def claims(now: float, **more) -> dict:
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(now) + 600, "scope": "openid infer:digits read:*"}
    return {key: value for key, value in {**made, **more}.items() if value is not None}


def token(now: float, kid: str | None = "ed", key=None, algorithm: str | None = None, **more) -> bytes:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(now, **more), key or PRIVATE[kid or "ed"], algorithm or ALGORITHM[kid or "ed"], headers).encode()


def unsigned(header: dict, body: dict, signature: bytes = b"") -> bytes:
    return ".".join([b64(json.dumps(header).encode()), b64(json.dumps(body).encode()), b64(signature)]).encode()


def verifier(moment: Time, fetch=None, **more) -> Tokens:
    return Tokens("x", ISSUER, AUDIENCE, clock=moment.clock(), fetch=fetch or (lambda: jwks(**PRIVATE)), **more)


def verified(tokens: Tokens, content: bytes):
    return tokens.verify(content, sha256(content).digest())


@pytest.mark.parametrize("kid", PRIVATE)
def test_a_token_is_its_subject_with_the_scopes_that_mean_something_here(kid):
    moment = Time()
    who = verified(verifier(moment), token(moment.wall, kid))
    assert (who.name, who.scopes, who.expires) == ("jwt:alice", {"infer:digits", "read:*"}, moment.wall + 600 + LEEWAY)


def test_a_token_signed_by_openssl(tmp_path):
    moment = Time()
    (tmp_path / "key.pem").write_bytes(RSA.private_bytes(PEM, PKCS8, PLAIN))
    signed = unsigned({"alg": "RS256", "kid": "rsa"}, claims(moment.wall)).rpartition(b".")[0]
    command = ["openssl", "dgst", "-sha256", "-sign", tmp_path / "key.pem"]
    signature = subprocess.run(command, input=signed, capture_output=True, check=True).stdout
    assert verified(verifier(moment), signed + b"." + b64(signature).encode()).name == "jwt:alice"


def test_what_is_wrong_with_a_token_is_said():
    moment = Time()
    tokens, now = verifier(moment), moment.wall
    public = RSA.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body, signature = token(now).split(b".")
    hs256 = unsigned({"alg": "HS256", "kid": "rsa", "typ": "JWT"}, claims(now)).rpartition(b".")[0]
    confused = hs256 + b"." + b64(hmac.digest(public, hs256, "sha256")).encode()
    other = b64(json.dumps(claims(now, sub="root", scope="admin:*")).encode()).encode()
    wrong = [
        (token(now, exp=int(now) - 31), "expired"),
        (token(now, nbf=int(now) + 60), "not valid yet"),
        (token(now, iat=int(now) + 60), "not valid yet"),
        (token(now, aud="other"), "another audience"),
        (token(now, aud=None), "no 'aud'"),
        (token(now, iss="https://evil.example"), "another issuer"),
        (token(now, iss=None), "no 'iss'"),
        (token(now, exp=None), "no 'exp'"),
        (token(now, sub=None), "no 'sub'"),
        (token(now, sub="x" * 300), "'sub'"),
        (token(now, scope=["infer:*"]), "'scope'"),
        (token(now, exp=True), "'exp' is not a number"),
        (unsigned({"alg": "none", "kid": "ed"}, claims(now)), "algorithm"),
        (unsigned({"alg": "nOnE", "kid": "ed"}, claims(now)), "algorithm"),
        (unsigned({"alg": "EdDSA", "kid": "ed"}, claims(now)), "signature"),
        (confused, "algorithm"),
        (token(now, "rsa", OTHER_RSA), "signature"),
        (token(now, "ed", STRANGER), "signature"),
        (token(now, "rsa", EDWARDS, "EdDSA"), "signature"),
        (token(now, "ghost", EDWARDS, "EdDSA"), "not known"),
        (token(now, None), "not known"),
        (jwt.encode(claims(now), EDWARDS, "EdDSA", {"kid": "ed", "crit": ["new"], "new": 1}).encode(), "not a JSON Web Token"),
        (b".".join([head, other, signature]), "signature"),
        (b".".join([head, body, b64(bytes(64)).encode()]), "signature"),
        (b"a.b.c", "not a JSON Web Token"),
        (b"\xff.\xff.\xff", "not a JSON Web Token"),
        (b"." * 9000, "bytes"),
    ]  # fmt: skip
    for content, said in wrong:
        with pytest.raises(Wrong, match=re.escape(said)):
            verified(tokens, content)
        assert tokens.recall(sha256(content).digest()) is None
    # A moment within the leeway is none too late, nor too early.
    assert verified(tokens, token(now, exp=int(now) - 29, nbf=int(now) + 29)).name == "jwt:alice"


def test_symmetric_algorithms_and_weak_or_private_keys_cannot_be_allowed():
    for algorithm in ("HS256", "none"):
        with pytest.raises(Refused, match="must be one of RS256"):
            verifier(Time(), algorithms=[algorithm])
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(Refused, match="1024 bits; 2048"):
        key_set(jwks(weak=weak))
    secret = {"kty": "oct", "k": b64(b"x" * 32), "kid": "a", "alg": "HS256"}
    private = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(EDWARDS)) | {"kid": "b"}
    for entries in ([secret], [private], [], [{"kty": "new"}]):
        with pytest.raises(Refused, match="no public key"):
            key_set(json.dumps({"keys": entries}).encode())
    for content in (b"", b"[]", b'{"keys": 3}', b'{"keys": [3]}', b"\xff"):
        with pytest.raises(Refused, match="not a JWK set"):
            key_set(content)


def test_an_unknown_key_is_fetched_once_in_a_while_and_the_old_ones_stay_when_that_fails():
    moment, asked, holds = Time(), [], [jwks(ed=EDWARDS)]
    done = threading.Semaphore(0)

    def fetch():
        asked.append(threading.current_thread().name)
        try:
            if isinstance(holds[0], Exception):
                raise holds[0]
            return holds[0]
        finally:
            done.release()

    tokens = verifier(moment, fetch)
    now, done = moment.wall, threading.Semaphore(0)
    new = token(now, "rsa")

    def settle():
        assert done.acquire(timeout=5)
        while tokens._fetching.locked():
            time.sleep(0.001)

    holds[0] = jwks(rsa=RSA)
    with pytest.raises(Wrong, match="not known"):
        verified(tokens, new)  # too soon after the first
    assert asked == ["MainThread"]
    old = token(now)
    assert verified(tokens, old).name == tokens.recall(sha256(old).digest()).name == "jwt:alice"
    moment.move(ASK_AGAIN)
    holds[0] = OSError("the issuer is down")
    with pytest.raises(Wrong, match="not known"):
        verified(tokens, new)
    settle()
    assert verified(tokens, old).name == "jwt:alice"
    holds[0] = jwks(rsa=RSA)
    moment.move(ASK_AGAIN)
    for _ in range(5):
        with pytest.raises(Wrong, match="not known"):
            verified(tokens, token(moment.wall, "ghost", EDWARDS, "EdDSA"))
    settle()
    assert asked == ["MainThread", "jwks", "jwks"]
    assert verified(tokens, new).name == "jwt:alice"
    assert tokens.recall(sha256(old).digest()) is None  # its key has gone, and what it verified with it
    with pytest.raises(Wrong, match="not known"):
        verified(tokens, old)
    holds[0] = jwks(ed=EDWARDS)
    moment.move(RENEW)
    tokens.recall(sha256(new).digest())
    settle()
    assert not tokens.recall(sha256(new).digest())


def test_keys_behind_https_never_block_and_redirects_are_not_followed(tmp_path, monkeypatch):
    served = {"/jwks": jwks(ed=EDWARDS), "/long": b" " * (1 << 20) + b"{}"}
    slow = threading.Event()

    class Issuer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if slow.is_set():
                time.sleep(1)
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("location", "/jwks")
            self.end_headers()
            self.wfile.write(served.get(self.path, b""))

        def log_message(self, *_):
            pass

    chain, secret = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    issuer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    issuer.socket = context.wrap_socket(issuer.socket, server_side=True)
    threading.Thread(target=issuer.serve_forever, daemon=True).start()
    url, moment = f"https://127.0.0.1:{issuer.server_port}", Time()

    def made(path):
        return Tokens(url + path, ISSUER, AUDIENCE, clock=moment.clock())

    with pytest.raises(Refused, match=r"self.signed"):
        made("/jwks")
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    for path, said in (("/moved", "302"), ("/long", "longer than"), ("/none", "not a JWK set")):
        with pytest.raises(Refused, match=said):
            made(path)
    with pytest.raises(Refused, match="a file or an https:// URL"):
        Tokens("http://127.0.0.1/jwks", ISSUER, AUDIENCE)
    tokens = made("/jwks")
    assert verified(tokens, token(moment.wall)).name == "jwt:alice"
    served["/jwks"] = jwks(ec=CURVE)
    slow.set()
    moment.move(ASK_AGAIN)
    began = time.perf_counter()
    with pytest.raises(Wrong, match="not known"):
        verified(tokens, token(moment.wall, "ec"))
    assert time.perf_counter() - began < 0.5
    until = time.perf_counter() + 10
    while "ec" not in tokens._state.keys and time.perf_counter() < until:
        time.sleep(0.02)
    assert verified(tokens, token(moment.wall, "ec")).name == "jwt:alice"
    issuer.shutdown()
    issuer.server_close()


def ask(admit, credential: bytes | None = None, need: str = INFER, model: str = "digits", address: str = "203.0.113.1") -> Call:
    headers = {} if credential is None else {b"authorization": b"Bearer " + credential}
    call = Call("http", headers, address)
    call.model = model
    admit(call, need)
    return call


def status(admit, *args, **more) -> int:
    try:
        ask(admit, *args, **more)
    except Stop as stop:
        return stop.status
    return 200


def admitting(moment: Time, file=None, limit: Rate | None = None, tokens: Tokens | None = None):
    clock = moment.clock()
    found = None if file is None else Keys(file, clock.monotonic)
    buckets = auth.Buckets(clock.monotonic)
    return auth.by_credential(auth.recognise_by(found, tokens, limit, buckets, clock), limit, buckets)


def test_a_clock_that_jumps_locks_nobody_out_and_revives_nothing(tmp_path):
    moment, file = Time(), tmp_path / "keys.json"
    forever = api_keys.add(file, "forever", ["infer:*"]).encode()
    until = datetime.datetime.fromtimestamp(moment.wall + 600, datetime.UTC).isoformat()
    brief = api_keys.add(file, "brief", ["infer:*"], expires=until).encode()
    signed = token(moment.wall)
    admit, fresh = admitting(moment, file, Rate(1.0, 1000), verifier(moment)), verifier(moment)
    everybody = (forever, brief, signed)

    def codes():
        return [status(admit, one) for one in everybody]

    assert codes() == [200, 200, 200]
    for jump in (-1e8, 1e8, -1e9, 1e9):  # there and back, three years and thirty
        moment.wall += jump
        assert codes() == [200, 200, 200], jump
        moment.wall -= jump
        moment.move(10)
        assert codes() == [200, 200, 200], jump
    moment.move(600 + LEEWAY)
    assert codes() == [200, 401, 401]
    for jump in (-3600.0, -1e8):
        moment.wall += jump
        for seconds in (0.0, 2 * PATIENCE):
            moment.move(seconds)
            assert codes() == [200, 401, 401], jump
            with pytest.raises(Wrong, match="expired"):  # one that never saw it
                verified(fresh, signed)
        moment.wall -= jump


def test_a_machine_that_slept_believes_the_time_after_a_while():
    moment = Time()
    clock = moment.clock()
    moment.wall += 7200  # the monotonic clock stood still
    before = clock()
    moment.move(PATIENCE)
    assert (before, clock()) == (1_800_000_000.0, moment.wall)
    moment.wall -= 7200  # and it was a mistake after all
    assert clock() == moment.wall


def test_a_rate_is_a_bucket_for_each_and_forgets_who_asked_least_lately(tmp_path):
    moment, file = Time(), tmp_path / "keys.json"
    usual = api_keys.add(file, "usual", ["infer:*"]).encode()
    quick = api_keys.add(file, "quick", ["infer:*"], rate=100, burst=50).encode()
    admit = admitting(moment, file, Rate(2.0, 3))
    assert [status(admit, usual) for _ in range(5)] == [200] * 3 + [429] * 2
    assert [status(admit, quick) for _ in range(51)] == [200] * 50 + [429]
    assert ask(admit, None, LIVE).principal == ""
    with pytest.raises(Stop, match="at most 2 requests a second, 3 at once; try again in 1 s") as stop:
        ask(admit, usual)
    assert stop.value.headers == ((b"retry-after", b"1"),)
    moment.wall -= 1e6  # another clock
    moment.passed += 0.5
    assert [status(admit, usual) for _ in range(2)] == [200, 429]
    moment.passed += 1000
    assert [status(admit, usual) for _ in range(4)] == [200] * 3 + [429]
    # An address that guesses is stopped, and who has a key there is not.
    guesses = [status(admit, b"arsenal_%d" % k) for k in range(4)]
    moment.passed += 0.1
    assert guesses == [401] * 3 + [429]
    assert (status(admit, quick), status(admit, b"arsenal_x", address="203.0.113.2")) == (200, 401)
    buckets = auth.Buckets(lambda: moment.passed, most=100)
    admit = auth.by_address(Rate(1.0, 1), buckets)
    assert [status(admit, address=f"198.51.{100 + k // 256}.{k % 256}") for k in range(1000)] == [200] * 1000
    assert len(buckets) == 100
    assert status(admit, address="198.51.103.231") == 429
    # An IPv6 host may have 2**64 addresses: they are one.
    assert [status(admit, address=f"2001:db8::{k}") for k in (1, 2)] == [200, 429]
    assert status(admit, address="2001:db8:0:1::1") == 200


def test_a_key_is_stored_as_its_hash_and_read_anew_when_the_file_changes(tmp_path, capsys):
    moment, file = Time(), tmp_path / "keys.json"
    first = api_keys.add(file, "first", ["infer:digits", "read:*"], rate=5.0)
    assert re.fullmatch(r"arsenal_[A-Za-z0-9_-]{43}", first)
    assert file.stat().st_mode & 0o777 == 0o600 and first not in file.read_text()
    assert sha256(first.encode()).hexdigest() in file.read_text()
    admit = admitting(moment, file)
    call = ask(admit, first.encode())
    assert (call.principal, call.scopes) == ("key:first", {"infer:digits", "read:*"})
    second = api_keys.add(file, "second", ["infer:digits"])
    assert status(admit, second.encode()) == 401
    moment.move(6)
    assert (status(admit, first.encode()), status(admit, second.encode())) == (200, 200)
    file.write_text("{")
    moment.move(6)
    assert status(admit, second.encode()) == 200
    assert "the keys stay as they were" in capsys.readouterr().err
    file.write_text('{"keys": []}')
    moment.move(6)
    assert (status(admit, first.encode()), status(admit, second.encode())) == (401, 401)


def test_a_file_of_keys_that_is_wrong_is_refused(tmp_path):
    file = tmp_path / "keys.json"
    entry = {"id": "a", "sha256": "0" * 64, "scopes": ["metrics"]}
    for entries, said in [
        ([{**entry, "scopes": ["infer"]}], "a scope must be"),
        ([{**entry, "scopes": []}], "at least one"),
        ([{**entry, "sha256": "0" * 63}], "64 hexadecimal"),
        ([{**entry, "id": "a b"}], "'id' must"),
        ([{**entry, "expires": "soon"}], "ISO 8601"),
        ([{**entry, "burst": 3}], "beside 'rate'"),
        ([{**entry, "rate": 0}], "a rate must"),
        ([{**entry, "scope": []}], "did you mean 'scopes'"),
        ([entry, {**entry, "id": "b"}], "twice"),
        ([entry, {**entry, "sha256": "1" * 64}], "twice"),
        ([3], "an object"),
    ]:  # fmt: skip
        file.write_text(json.dumps({"keys": entries}))
        with pytest.raises(Refused, match=re.escape(said)):
            Keys(file)
    for content, said in [("{", "not JSON"), ("[]", "must be {'keys'")]:
        file.write_text(content)
        with pytest.raises(Refused, match=re.escape(said)):
            Keys(file)
    file.write_text(json.dumps({"keys": [entry]}))
    file.chmod(0o620)
    with pytest.raises(Refused, match="chmod 600"):
        Keys(file)
    with pytest.raises(Refused, match="has a key 'a' already"):
        api_keys.add(file, "a", ["metrics"])
    (tmp_path / "keys.json.new").touch()
    with pytest.raises(Refused, match="another command adds"):
        api_keys.add(file, "b", ["metrics"])
    assert json.loads(file.read_text()) == {"keys": [entry]}


@pytest.mark.parametrize(
    ("scopes", "need", "model", "admitted"),
    [
        ("infer:digits", INFER, "digits", True),
        ("infer:digits", INFER, "digits.embed", True),
        ("infer:digits", INFER, "digits2", False),
        ("infer:digits", READ, "digits", False),
        ("infer:digits.embed", INFER, "digits.embed", True),
        ("infer:digits.embed", INFER, "digits", False),
        ("infer:*", INFER, "anything", True),
        ("infer:*", METRICS, "", False),
        ("metrics", METRICS, "", True),
        ("admin:*", READ, "digits", False),
        ("admin:digits", "admin", "digits", True),
        ("admin:digits", "admin", "digits.embed", False),
        ("read:digits", READ, "", True),
        ("infer:digits", READ, "", False),
        ("", READ, "", False),
    ],
)
def test_what_a_scope_admits_to(scopes, need, model, admitted):
    assert may_go_on(frozenset(scopes.split()), need, model) is admitted


def certificate(folder, name: str = "localhost"):
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = x509.CertificateBuilder().subject_name(named).issuer_name(named).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    made = made.not_valid_after(now + datetime.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName(names), False).add_extension(x509.BasicConstraints(True, 0), True)
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(PEM))
    secret.write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
    return chain, secret


def scaled(params, x):
    return x * params["by"]


class Guarded:
    """A server with TLS, keys and tokens over three models, and what its clients hold."""

    def __init__(self, folder):
        for name in ("digits", "secret", "digits.hidden"):
            export(folder / "models" / name, scaled, {"by": np.float32(2)}, np.ones((2, 4), np.float32), name=name)
        self.chain, secret = certificate(folder)
        file = folder / "keys.json"
        self.own = api_keys.add(file, "own", ["infer:digits", "read:digits"])
        self.all = api_keys.add(file, "all", ["infer:*", "read:*"])
        self.admin = api_keys.add(file, "admin", ["admin:*"])
        self.few = api_keys.add(file, "few", ["read:*"], rate=0.001, burst=2)
        (folder / "jwks.json").write_bytes(jwks(ed=EDWARDS))
        command = [sys.executable, "-m", "arsenal_serving", str(folder / "models"), "--port", "0", "--grpc-port", "0"]
        command += ["--control", "--max-body", "200000", "--tls-cert", str(self.chain), "--tls-key", str(secret), "--keys", str(file)]
        command += ["--jwks", str(folder / "jwks.json"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"https://127\.0\.0\.1:(\d+)/.*grpcs://127\.0\.0\.1:(\d+)", line)
        assert found, (line, self.process.stderr.read())
        self.port, self.rpc = int(found[1]), int(found[2])
        self.context = ssl.create_default_context(cafile=str(self.chain))
        credentials = grpc.ssl_channel_credentials(self.chain.read_bytes())
        self.channel = grpc.secure_channel(f"localhost:{self.rpc}", credentials)

    def ask(self, path, body=None, verb=None, **headers):
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=self.context)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body)
        connection.request(verb or ("GET" if body is None else "POST"), path, content, given)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), json.loads(text)

    def status(self, path, credential, body=None, verb=None):
        return self.ask(path, body, verb, Authorization=f"Bearer {credential}")[0]

    def call(self, name, credential=None, /, metadata=(), service="inference.GRPCInferenceService", **fields):
        described = POOL.FindServiceByName(service).methods_by_name[name]
        asked, answered = (protos.message(POOL, m.full_name) for m in (described.input_type, described.output_type))
        coders = (asked.SerializeToString, answered.FromString)
        more = [*metadata, *([("authorization", f"Bearer {credential}")] if credential else [])]
        if described.client_streaming:
            stub = self.channel.stream_stream(f"/{service}/{name}", *coders)
            return next(stub(iter([asked(**fields)]), metadata=more, timeout=20))
        if described.server_streaming:
            stub = self.channel.unary_stream(f"/{service}/{name}", *coders)
            return next(stub(asked(**fields), metadata=more, timeout=20))
        return self.channel.unary_unary(f"/{service}/{name}", *coders)(asked(**fields), metadata=more, timeout=20)

    def code(self, *args, **more) -> str:
        try:
            self.call(*args, **more)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    made = Guarded(tmp_path_factory.mktemp("guarded"))
    yield made
    made.channel.close()
    made.process.send_signal(signal.SIGTERM)
    _, err = made.process.communicate(timeout=20)
    assert (made.process.returncode, "Traceback" in err) == (0, False), err


BODY = {"inputs": [tensor(np.ones((1, 4), np.float32))]}
INFERENCE = "/v2/models/{}/infer"


def test_health_is_open_and_the_rest_is_not(guarded):
    assert guarded.ask("/v2/health/live")[0] == guarded.ask("/v2/health/ready")[0] == guarded.ask("/v2")[0] == 200
    for path, verb in [("/v2/models/digits", "GET"), ("/v2/models/stats", "GET"), ("/openapi.json", "GET"),
                       ("/v2/repository/index", "POST"), (INFERENCE.format("digits"), "POST"), ("/predict", "POST"),
                       ("/v2/repository/models/digits/unload", "POST"), ("/v2/models/digits/ready", "HEAD")]:  # fmt: skip
        status, headers, _ = guarded.ask(path, BODY if verb == "POST" else None) if verb != "HEAD" else guarded.ask(path)
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="arsenal-serve"'), path
    assert guarded.code("ServerLive") == guarded.code("Check", service="grpc.health.v1.Health") == "OK"
    for name in ("ModelMetadata", "ModelInfer", "ModelReady", "ModelStatistics", "RepositoryIndex", "RepositoryModelUnload"):
        assert guarded.code(name) == "UNAUTHENTICATED", name
    streams = [("Watch", "grpc.health.v1.Health"), ("ServerReflectionInfo", "grpc.reflection.v1.ServerReflection")]
    for name, service in streams:
        assert guarded.code(name, service=service) == "UNAUTHENTICATED"
        assert guarded.code(name, guarded.admin, service=service) == "PERMISSION_DENIED"
        assert guarded.code(name, guarded.own, service=service) == "OK"


def test_keys_and_tokens_are_taken_from_either_header_and_from_metadata(guarded):
    path, now = INFERENCE.format("digits"), time.time()
    signed = token(now).decode()
    for headers in ({"Authorization": f"Bearer {guarded.own}"}, {"authorization": f"bearer  {guarded.own}"}, {"X_API_Key": guarded.own},
                    {"Authorization": "Basic YTpi", "X_API_Key": guarded.own}, {"Authorization": f"Bearer {signed}"}, {"X_API_Key": signed}):  # fmt: skip
        status, _, body = guarded.ask(path, BODY, **headers)
        assert (status, body["outputs"][0]["data"]) == (200, [2.0] * 4), headers
        assert guarded.code("ModelMetadata", metadata=[(k.lower().replace("_", "-"), v) for k, v in headers.items()], name="digits") == "OK"
    status, headers, body = guarded.ask(path, BODY, Authorization=f"Bearer {guarded.own[:-1]}")
    assert (status, headers["www-authenticate"], body["error"]) == (
        401, 'Bearer realm="arsenal-serve", error="invalid_token"', "this API key is not known.")  # fmt: skip
    for wrong in (token(now, aud="x"), token(now, "ed", STRANGER), token(now - 7200), unsigned({"alg": "none"}, claims(now))):
        assert guarded.status(path, wrong.decode(), BODY) == 401
        assert guarded.code("ModelInfer", wrong.decode(), model_name="digits") == "UNAUTHENTICATED"


def test_a_key_of_another_model_learns_nothing_of_this_one(guarded):
    own, infer = guarded.own, INFERENCE.format
    seen = {name: guarded.ask(infer(name), BODY, Authorization=f"Bearer {own}") for name in ("secret", "ghosts")}
    assert seen["secret"][0] == seen["ghosts"][0] == 403
    assert seen["secret"][2]["error"] == "this needs the scope 'infer:secret'."
    assert 'scope="infer:secret"' in seen["secret"][1]["www-authenticate"]
    assert guarded.code("ModelInfer", own, model_name="secret") == guarded.code("ModelInfer", own, model_name="ghosts") == "PERMISSION_DENIED"
    # "digits.hidden" reads like a method of digits, and is a model.
    hidden, missing = (guarded.ask(infer(f"digits.{name}"), BODY, Authorization=f"Bearer {own}") for name in ("hidden", "missin"))
    assert hidden[0] == missing[0] == 404
    assert hidden[2]["error"].replace("hidden", "missin") == missing[2]["error"]
    assert guarded.code("ModelInfer", own, model_name="digits.hidden") == "NOT_FOUND"
    assert guarded.status(infer("digits.predict"), own, BODY) == 200
    policies = {name: guarded.status(f"/v2/repository/models/{name}/policy", own) for name in ("digits", "digits.hidden", "digits.missin")}
    assert policies == {"digits": 200, "digits.hidden": 404, "digits.missin": 404}

    def texts(credential):
        documents = [guarded.ask(path, *more, Authorization=f"Bearer {credential}")[2] for path, *more in
                     [("/v2/repository/index", {}), ("/v2/models/stats",), ("/openapi.json",), ("/predict", {"records": []})]]  # fmt: skip
        lists = [str(guarded.call(name, credential)) for name in ("RepositoryIndex", "ModelStatistics")]
        return [json.dumps(document) for document in documents[:3]], json.dumps(documents[3]), lists

    documents, predict, lists = texts(own)
    for text in (*documents, predict, *lists):
        assert "secret" not in text and "hidden" not in text, text
    assert all("digits" in text for text in (*documents, *lists))
    documents, predict, lists = texts(guarded.all)
    for text in (*documents, predict, *lists):
        assert "secret" in text and "digits.hidden" in text, text
    assert guarded.ask("/predict", {"records": [{"x": [1, 2, 3, 4]}]}, X_API_Key=own)[2]["records"] == [{"predict": [2.0, 4.0, 6.0, 8.0]}]


TRAVERSALS = ["..", "../secret", "..%2fsecret", "%2e%2e%2f%2e%2e%2fkeys.json", "..%5csecret", "%2fetc%2fpasswd", "digits%2f..%2fsecret",
              "digits%00", "%252e%252e%252fsecret", "a%22%0d%0aX-Evil:%201", "%c0%ae%c0%ae", "digits/versions/..%2f..%2fsecret"]  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_name_of_a_model_is_a_path(guarded, name):
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/infer", f"/models/{name}/predict", f"/v2/repository/models/{name}/load"):
        for credential, allowed in ((guarded.own, (403, 404)), (guarded.all, (403, 404, 405)), (guarded.admin, (403, 404))):
            status, headers, body = guarded.ask(path, {} if path[-1] in "rtd" else None, Authorization=f"Bearer {credential}")
            assert status in allowed, (path, status, body)
            assert "x-evil" not in {key.lower() for key in headers} and "keys.json" not in body["error"].replace(unquote(name.replace("%2f", "%252F")), "")
    for plain in {unquote(name), unquote(unquote(name))} - {"digits\0"}:
        assert guarded.code("ModelMetadata", guarded.all, name=plain) == "NOT_FOUND"
        assert guarded.code("ModelInfer", guarded.own, model_name=plain) in ("PERMISSION_DENIED", "NOT_FOUND")
        assert guarded.code("RepositoryModelLoad", guarded.admin, model_name=plain) == "NOT_FOUND"
    assert guarded.code("RepositoryModelLoad", guarded.all, model_name="digits") == "PERMISSION_DENIED"


def test_no_message_of_a_stranger_is_read(guarded):
    long = [b"x" * 300_000]
    assert guarded.code("ModelInfer", guarded.own, model_name="digits", raw_input_contents=long) == "RESOURCE_EXHAUSTED"
    for credential in (None, "arsenal_x", unsigned({"alg": "none"}, claims(0)).decode()):
        assert guarded.code("ModelInfer", credential, model_name="digits", raw_input_contents=long) == "UNAUTHENTICATED"
    with pytest.raises(grpc.RpcError) as error:
        guarded.call("ModelMetadata", "arsenal_x", name="digits")
    assert error.value.details() == "this API key is not known."
    assert dict(error.value.trailing_metadata())["www-authenticate"].endswith('error="invalid_token"')


def test_a_rate_of_a_key_by_both_protocols(guarded):
    codes = [guarded.ask("/v2/models/digits", X_API_Key=guarded.few) for _ in range(3)]
    assert [code for code, *_ in codes] == [200, 200, 429]
    assert int(codes[-1][1]["retry-after"]) in range(900, 1001)
    with pytest.raises(grpc.RpcError) as error:
        guarded.call("ModelMetadata", guarded.few, name="digits")
    assert error.value.code().name == "RESOURCE_EXHAUSTED"
    assert int(dict(error.value.trailing_metadata())["retry-after"]) in range(900, 1001)


@pytest.mark.parametrize(("most", "spoken"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)])
def test_tls_1_2_is_the_least(guarded, most, spoken):
    for port in (guarded.port, guarded.rpc):
        context = ssl.create_default_context(cafile=str(guarded.chain))
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.maximum_version = most
        with socket.create_connection(("localhost", port), timeout=10) as plain:
            if spoken:
                with context.wrap_socket(plain, server_hostname="localhost") as client:
                    assert client.version() == "TLSv1.2"
            else:
                with pytest.raises((ssl.SSLError, ConnectionResetError)) as error:
                    context.wrap_socket(plain, server_hostname="localhost")
                assert "NO_PROTOCOLS_AVAILABLE" not in str(error.value)  # it is the server that will not
    connection = http.client.HTTPConnection("localhost", guarded.port, timeout=10)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.request("GET", "/v2/health/live")
        connection.getresponse()
    connection.close()


def test_a_client_that_says_nothing_of_tls_is_hung_up_on(tmp_path):
    chain, secret = certificate(tmp_path)

    async def work():
        listening = socket.create_server(("127.0.0.1", 0))
        server = http1.Server(lambda exchange: exchange.answer(200, (), b"ok"), http1.Limits(grace=0.3), tls.read(chain, secret).context)
        await server.start(listening)

        def client():
            with socket.create_connection(listening.getsockname(), timeout=10) as quiet:
                began = time.perf_counter()
                with contextlib.suppress(ConnectionResetError):
                    assert quiet.recv(1) == b""
                return time.perf_counter() - began

        took = await asyncio.to_thread(client)
        await server.stop(1.0)
        return took

    assert 0.2 < asyncio.run(work()) < 5


def test_a_long_body_of_a_stranger_is_answered_before_it_is_read(guarded):
    context = guarded.context
    with socket.create_connection(("localhost", guarded.port), timeout=10) as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 150000\r\n\r\n" + b"x" * 1000)
        assert client.recv(100).startswith(b"HTTP/1.1 401 ")


def test_options_that_do_not_fit_are_refused_in_one_line_before_jax_is_there(tmp_path, folder):
    chain, secret = certificate(tmp_path)
    os.mkdir(tmp_path / "other")
    _, other = certificate(tmp_path / "other")
    file, where, out = tmp_path / "keys.json", str(folder.parent.parent), "0.0.0.0"
    api_keys.add(file, "a", ["infer:*"])
    (tmp_path / "jwks.json").write_bytes(jwks(ed=EDWARDS))
    locked = tmp_path / "locked.pem"
    locked.write_bytes(EDWARDS.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")))
    both = ["--tls-cert", chain, "--tls-key", secret]
    for words, said in [
        (["--host", out], "add --tls-cert and --tls-key and --keys or --jwks; or --insecure"),
        (["--host", out, *both], "add --keys or --jwks; or"),
        (["--host", out, "--keys", file], "add --tls-cert and --tls-key; or"),
        (["--admin-port", "0", "--admin-host", out], f"{out} is reached from other machines"),
        (["--host", out, "--workers", "2"], "is reached from other machines"),
        (["--tls-cert", chain], "--tls-cert needs --tls-key"),
        (["--tls-cert", chain, "--tls-key", other], "do not belong together"),
        (["--tls-cert", chain, "--tls-key", locked], "passphrase"),
        (["--tls-cert", file, "--tls-key", secret], "as PEM"),
        (["--tls-cert", tmp_path / "none.pem", "--tls-key", secret], "none.pem"),
        (["--keys", chain], "not JSON"),
        (["--jwks", tmp_path / "jwks.json"], "--jwks needs --jwt-issuer"),
        (["--jwks", file, "--jwt-issuer", "a", "--jwt-audience", "b"], "no public key"),
        (["--burst", "3"], "--burst needs --rate"),
        (["--rate", "-1"], "a rate must be"),
    ]:  # fmt: skip
        line = refused([where, *map(str, words)])
        assert said in line, (words, line)
    assert "a scope must be" in refused(["key", "--keys", str(file), "--id", "b", "--scope", "infer"])


def refused(words: list[str]) -> str:
    """The one line that the command says, without having imported jax."""
    program = "import sys; from arsenal_serving.__main__ import main; code = main(sys.argv[1:]); print('jax' in sys.modules); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, "False\n"), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_the_verb_key_prints_a_key_that_works(tmp_path):
    file = tmp_path / "keys.json"
    command = [sys.executable, "-m", "arsenal_serving", "key", "--keys", str(file), "--id", "ci", "--scope", "infer:digits", "--scope", "read:*"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert ask(admitting(Time(), file), done.stdout.strip().encode()).principal == "key:ci"
    assert done.stdout.strip() not in file.read_text() + done.stderr
