// penstockd through @grpc/grpc-js, with messages by protobufjs: nothing of ours writes or reads them. Every method with an empty
// request and with each field wrong in turn, every stream, and a replica's life.
//   node peers.js HOST:PORT PROTO_ROOT FILE_FOR_A_DISK
"use strict";
const fs = require("fs");
const path = require("path");
const assert = require("assert");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [target, root, disk] = process.argv.slice(2);
const files = fs.readdirSync(path.join(root, "spdkrpc")).filter((file) => file.endsWith(".proto"));
const loaded = loader.loadSync(files.map((file) => `spdkrpc/${file}`), { includeDirs: [root], keepCase: true, longs: String, defaults: true });
const Service = grpc.loadPackageDefinition(loaded).spdkrpc.SPDKService;
const client = new Service(target, grpc.credentials.createInsecure());
const code = grpc.status;
const deadline = () => new Date(Date.now() + 30000);

function call(method, request = {}) {
  return new Promise((answer) => {
    client[method](request, { deadline: deadline() }, (error, value) => answer(error || { code: code.OK, value }));
  });
}

async function good(method, request) {
  const { code: got, details, value } = await call(method, request);
  assert.strictEqual(got, code.OK, `${method}: ${code[got]} ${details}`);
  return value;
}

async function until(look, what) {
  for (const end = Date.now() + 30000; Date.now() < end; await new Promise((go) => setTimeout(go, 10))) {
    const value = await look();
    if (value) return value;
  }
  assert.fail(`waited in vain: ${what}`);
}

// A stream's answers so far; it ends when the test cancels it, or says why it was refused.
function watch(method, request = {}) {
  const seen = { count: 0, code: null, stream: client[method](request, { deadline: deadline() }) };
  seen.stream.on("data", () => seen.count++);
  seen.stream.on("error", () => {});
  seen.stream.on("status", (status) => (seen.code = status.code));
  return seen;
}

const methods = Object.entries(Service.service);
const unary = methods.filter(([, about]) => !about.requestStream && !about.responseStream);
const streams = methods.filter(([, about]) => about.responseStream);
const answered = (got) => ![code.UNAVAILABLE, code.DEADLINE_EXCEEDED, code.CANCELLED, code.INTERNAL].includes(got);

// What does something even when nothing is said is not asked with nothing.
async function everyMethod() {
  const served = new Set();
  for (const [method] of unary) {
    const got = await call(method);
    assert(answered(got.code), `${method}: ${code[got.code]} ${got.details}`);
    assert(got.code === code.OK || got.details, `${method}: a code without a word`);
    if (got.code !== code.UNIMPLEMENTED) served.add(method);
  }
  return served;
}

const wrongs = {
  TYPE_STRING: ["x".repeat(70000), "a/../../b", "\u0000", "-r-", "\u{1f4a9}"],
  TYPE_UINT64: ["18446744073709551615", "1"],
  TYPE_INT64: ["-1", "9223372036854775807"],
  TYPE_UINT32: [4294967295],
  TYPE_INT32: [-1, 2147483647],
};

async function everyWrongField(served) {
  let asked = 0;
  for (const [method, about] of unary) {
    if (!served.has(method)) continue;
    for (const field of about.requestType.type.field)
      for (const value of field.label === "LABEL_REPEATED" ? [] : wrongs[field.type] || []) {
        const got = await call(method, { [field.name]: value });
        assert(answered(got.code), `${method} ${field.name}=${String(value).slice(0, 20)}: ${code[got.code]} ${got.details}`);
        asked++;
      }
  }
  return asked;
}

async function everyStream() {
  const open = [];
  for (const [method] of streams) open.push([method, watch(method)]);
  await new Promise((go) => setTimeout(go, 300));
  let stay = 0;
  for (const [method, seen] of open) {
    assert([null, code.UNIMPLEMENTED].includes(seen.code), `${method}: ${code[seen.code]}`);
    if (seen.code !== null) continue;
    stay++;
    seen.stream.cancel();
    await until(() => seen.code !== null, `${method} ends`);
    assert.strictEqual(seen.code, code.CANCELLED, method);
  }
  return [open.length, stay];
}

async function aLife() {
  const replica = "vol-r-0a1B2c3D";
  const one = { name: replica };
  const get = () => good("ReplicaGet", one);
  await good("DiskCreate", { disk_name: "js", disk_path: disk, block_size: 4096 });
  await until(async () => (await good("DiskGet", { disk_name: "js" })).state === "ready", "the disk");
  const seen = watch("ReplicaWatch");
  const made = await good("ReplicaCreate", { ...one, lvs_name: "js", spec_size: 16 << 20, port_count: 5 });
  assert.strictEqual(made.state, "running");
  await until(() => seen.count > 0, "the watch tells");
  await good("ReplicaSnapshotCreate", { ...one, snapshot_name: "s1", user_created: true });
  await good("ReplicaSnapshotCreate", { ...one, snapshot_name: "s2" });
  assert.deepStrictEqual(Object.keys((await get()).snapshots).sort(), ["s1", "s2"]);
  await good("ReplicaExpand", { ...one, size: 20 << 20 });
  assert.strictEqual((await get()).spec_size, String(20 << 20));
  await good("ReplicaSnapshotRevert", { ...one, snapshot_name: "s1" });
  await good("ReplicaSnapshotDelete", { ...one, snapshot_name: "s2" });
  await good("ReplicaSnapshotPurge", one);
  assert.deepStrictEqual(Object.keys((await good("ReplicaList", {})).replicas), [replica]);
  assert.strictEqual((await call("ReplicaSnapshotRevert", { ...one, snapshot_name: "none" })).code, code.UNKNOWN);
  await good("ReplicaDelete", { ...one, cleanup_required: true });
  assert.strictEqual((await call("ReplicaGet", one)).code, code.NOT_FOUND);
  assert.match((await call("DiskHealthGet", { disk_name: "js" })).details, /no NVMe controller/);
  const uuid = (await good("DiskGet", { disk_name: "js" })).uuid;
  await good("DiskDelete", { disk_name: "js", disk_uuid: uuid });
  seen.stream.cancel();
}

(async () => {
  const served = await everyMethod();
  for (const method of ["VersionDetailGet", "DiskCreate", "ReplicaCreate", "ReplicaSnapshotPurge"]) assert(served.has(method), method);
  const asked = await everyWrongField(served);
  const [all, stay] = await everyStream();
  await aLife();
  client.close();
  console.log(`grpc-js: ${unary.length} methods, ${served.size} served; ${asked} wrong requests; ${all} streams, ${stay} served`);
})().catch((failure) => {
  console.log(failure.stack);
  process.exit(1);
});
