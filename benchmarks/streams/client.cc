// A load generator that is cheap enough not to be the limit: one thread, one completion queue, no protobuf.
//
//   client streams ADDRESS METHOD REQUESTS OUTPUT COUNT SECONDS SPREAD_NS CONNECTIONS
//   client first   ADDRESS METHOD REQUESTS OUTPUT COUNT PAUSE_NS
//   client unary   ADDRESS METHOD REQUESTS OUTPUT COUNT PAUSE_NS
//
// REQUESTS holds serialised messages, each behind its length (uint32); call i sends the i-th, from the start again after
// the last. `streams` opens COUNT calls, spread over SPREAD_NS, sends each its request, half-closes, and reads until
// SECONDS after the last was opened; `first` opens one call after the other and cancels each at its first block; `unary`
// does one unary call after the other. OUTPUT gets a record a call, all integers of 64 bits, in the machine's byte order:
// when it began, its status (-1: still running when time was up), messages that are no blocks, messages of blocks, then
// that many times of arrival and that many lengths. Times are nanoseconds of CLOCK_MONOTONIC, which servers here share.
//
// A message of samplecache.v1.PlayResponse is known by its first byte: 0x12 is the tag of field 2, a block.

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr uint8_t kBlockTag = 0x12;
constexpr int64_t kSecond = 1000000000;
constexpr int64_t kRunning = -1;

int64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

void sleep_until(int64_t time_ns) {
  const timespec time{time_ns / kSecond, time_ns % kSecond};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr) != 0) {
  }
}

gpr_timespec deadline(int64_t time_ns) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(time_ns - now_ns(), GPR_TIMESPAN));
}

std::vector<grpc::ByteBuffer> read_requests(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<grpc::ByteBuffer> requests;
  uint32_t length;
  while (file.read(reinterpret_cast<char*>(&length), sizeof length)) {
    std::string message(length, 0);
    file.read(message.data(), length);
    const grpc::Slice slice(message);
    requests.emplace_back(&slice, 1);
  }
  if (requests.empty()) {
    std::cerr << path << " holds no request\n";
    std::exit(2);
  }
  return requests;
}

bool is_block(const grpc::ByteBuffer& message) {
  std::vector<grpc::Slice> slices;
  return message.Dump(&slices).ok() && !slices.empty() && slices[0].size() > 0 && slices[0].begin()[0] == kBlockTag;
}

std::shared_ptr<grpc::Channel> connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // channels of one address would share a connection
  arguments.SetMaxReceiveMessageSize(-1);
  auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  if (!channel->WaitForConnected(deadline(now_ns() + 10 * kSecond))) {
    std::cerr << "nobody answers at " << address << "\n";
    std::exit(2);
  }
  return channel;
}

enum Operation : uintptr_t { kWritten = 0, kReceived = 1, kFinished = 2 };

struct Call {
  grpc::ClientContext context;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
  grpc::ByteBuffer incoming;
  grpc::Status status;
  int64_t began_ns = 0, code = kRunning, others = 0;
  std::vector<int64_t> arrivals_ns, lengths;

  void* tag(Operation operation) { return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(this) | operation); }

  void begin(grpc::GenericStub& stub, const std::string& method, const grpc::ByteBuffer& request,
             grpc::CompletionQueue& queue) {
    context.set_initial_metadata_corked(true);
    stream = stub.PrepareCall(&context, method, &queue);
    stream->StartCall(nullptr);
    began_ns = now_ns();
    stream->WriteLast(request, grpc::WriteOptions(), tag(kWritten));
    stream->Read(&incoming, tag(kReceived));
  }

  void received(int64_t time_ns) {
    if (is_block(incoming)) {
      arrivals_ns.push_back(time_ns);
      lengths.push_back(incoming.Length());
    } else {
      ++others;
    }
    stream->Read(&incoming, tag(kReceived));
  }
};

struct Event {
  Call* call;
  Operation operation;
  bool ok;
};

Event event(void* tag, bool ok) {
  const auto bits = reinterpret_cast<uintptr_t>(tag);
  return {reinterpret_cast<Call*>(bits & ~uintptr_t{3}), static_cast<Operation>(bits & 3), ok};
}

/// Handle one event; return whether the call is over with it.
bool handle(const Event& what, int64_t time_ns) {
  Call& call = *what.call;
  if (what.operation == kFinished) {
    call.code = call.status.error_code();
    if (!call.status.ok() && call.status.error_code() != grpc::StatusCode::CANCELLED) {
      std::cerr << "status " << call.code << ": " << call.status.error_message() << "\n";
    }
    return true;
  }
  if (what.operation == kReceived) {
    if (what.ok) {
      call.received(time_ns);
    } else {
      call.stream->Finish(&call.status, call.tag(kFinished));
    }
  }
  return false;
}

void write_records(const char* path, const std::vector<std::unique_ptr<Call>>& calls) {
  std::ofstream file(path, std::ios::binary);
  const auto put = [&file](int64_t value) { file.write(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const auto& call : calls) {
    put(call->began_ns);
    put(call->code);
    put(call->others);
    put(static_cast<int64_t>(call->arrivals_ns.size()));
    file.write(reinterpret_cast<const char*>(call->arrivals_ns.data()), 8 * call->arrivals_ns.size());
    file.write(reinterpret_cast<const char*>(call->lengths.data()), 8 * call->lengths.size());
  }
}

void run_streams(const std::string& address, const std::string& method, const std::vector<grpc::ByteBuffer>& requests,
                 std::vector<std::unique_ptr<Call>>& calls, size_t count, int64_t duration_ns, int64_t spread_ns,
                 size_t connections) {
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs;
  for (size_t number = 0; number < connections; ++number) {
    stubs.push_back(std::make_unique<grpc::GenericStub>(connect(address)));
  }
  grpc::CompletionQueue queue;
  const int64_t start_ns = now_ns();
  size_t opened = 0, open = 0;
  // A golden section of the spread apart: in no order, and in no common phase, whatever the blocks' length.
  const auto due_ns = [&](size_t number) {
    return start_ns + static_cast<int64_t>(std::fmod(number * 0.6180339887498949, 1.0) * spread_ns);
  };
  std::vector<size_t> order(count);
  for (size_t number = 0; number < count; ++number) order[number] = number;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return due_ns(a) < due_ns(b); });
  for (size_t number = 0; number < count; ++number) calls.push_back(std::make_unique<Call>());
  const int64_t stop_ns = start_ns + spread_ns + duration_ns;
  bool stopping = false;
  while (!stopping || open > 0) {
    int64_t time_ns = now_ns();
    while (opened < count && due_ns(order[opened]) <= time_ns) {
      calls[order[opened]]->begin(*stubs[opened % connections], method, requests[order[opened] % requests.size()],
                                  queue);
      ++opened, ++open;
    }
    if (!stopping && time_ns >= stop_ns) {
      stopping = true;
      for (auto& call : calls) call->context.TryCancel();
    }
    const int64_t wake_ns = stopping ? time_ns + kSecond : opened < count ? due_ns(order[opened]) : stop_ns;
    void* tag;
    bool ok;
    if (queue.AsyncNext(&tag, &ok, deadline(wake_ns)) != grpc::CompletionQueue::GOT_EVENT) continue;
    const Event what = event(tag, ok);
    if (stopping && what.operation == kReceived && ok) {
      what.call->stream->Read(&what.call->incoming, what.call->tag(kReceived));  // counts no more
    } else if (handle(what, now_ns())) {
      --open;
      if (stopping) what.call->code = what.call->status.error_code() == grpc::CANCELLED ? kRunning : what.call->code;
    }
  }
}

void run_first(const std::string& address, const std::string& method, const std::vector<grpc::ByteBuffer>& requests,
               std::vector<std::unique_ptr<Call>>& calls, size_t count, int64_t pause_ns) {
  grpc::GenericStub stub(connect(address));
  grpc::CompletionQueue queue;
  for (size_t number = 0; number < count; ++number) {
    calls.push_back(std::make_unique<Call>());
    Call& call = *calls.back();
    call.begin(stub, method, requests[number % requests.size()], queue);
    bool over = false;
    while (!over) {
      void* tag;
      bool ok;
      queue.Next(&tag, &ok);
      const size_t before = call.arrivals_ns.size();
      over = handle(event(tag, ok), now_ns());
      if (before == 0 && call.arrivals_ns.size() == 1) call.context.TryCancel();
    }
    call.arrivals_ns.resize(std::min<size_t>(1, call.arrivals_ns.size()));
    call.lengths.resize(call.arrivals_ns.size());
    sleep_until(now_ns() + pause_ns);
  }
}

void run_unary(const std::string& address, const std::string& method, const std::vector<grpc::ByteBuffer>& requests,
               std::vector<std::unique_ptr<Call>>& calls, size_t count, int64_t pause_ns) {
  grpc::GenericStub stub(connect(address));
  grpc::CompletionQueue queue;
  for (size_t number = 0; number < count; ++number) {
    calls.push_back(std::make_unique<Call>());
    Call& call = *calls.back();
    call.began_ns = now_ns();
    auto reader = stub.PrepareUnaryCall(&call.context, method, requests[number % requests.size()], &queue);
    reader->StartCall();
    reader->Finish(&call.incoming, &call.status, call.tag(kFinished));
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    call.arrivals_ns.push_back(now_ns());
    call.lengths.push_back(call.incoming.Length());
    call.code = call.status.error_code();
    sleep_until(now_ns() + pause_ns);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8) {
    std::cerr << "client streams|first|unary ADDRESS METHOD REQUESTS OUTPUT COUNT ...\n";
    return 2;
  }
  const std::string mode = argv[1], address = argv[2], method = argv[3];
  const auto requests = read_requests(argv[4]);
  const size_t count = std::strtoull(argv[6], nullptr, 10);
  std::vector<std::unique_ptr<Call>> calls;
  if (mode == "streams" && argc == 10) {
    run_streams(address, method, requests, calls, count, static_cast<int64_t>(std::atof(argv[7]) * kSecond),
                std::atoll(argv[8]), std::strtoull(argv[9], nullptr, 10));
  } else if (mode == "first" && argc == 8) {
    run_first(address, method, requests, calls, count, std::atoll(argv[7]));
  } else if (mode == "unary" && argc == 8) {
    run_unary(address, method, requests, calls, count, std::atoll(argv[7]));
  } else {
    std::cerr << "unknown mode, or a wrong number of arguments\n";
    return 2;
  }
  write_records(argv[5], calls);
  return 0;
}
