import Foundation
import LocalBroker
import TestTurns
import Testing

#if os(Linux)
import Glibc

@Suite("A broker in a process that has run out of file descriptors")
struct DescriptorTests {
    /// Nothing has made the event loops yet, which NIO cannot make without.
    @Test("is not started as the first that needs any, with an error that says why", .exitTest, arguments: 0...24)
    func first(_ left: Int) async {
        await #expect(processExitsWith: .success) { [left] in
            setenv("LOCAL_BROKER_RABBITMQ_SERVER", "/bin/true", 1)
            leave(left)
            await expectStart { $0.isShortage || ($0.isEndOfNode && left > 13) }
        }
    }

    /// At each of these numbers it is another step for which there is none.
    @Test("is not started later either", .exitTest, arguments: 0...16)
    func later(_ left: Int) async {
        await #expect(processExitsWith: .success) { [left] in
            // A program that ends at once in place of RabbitMQ: what counts here comes before.
            setenv("LOCAL_BROKER_RABBITMQ_SERVER", "/bin/true", 1)
            await expectStart { $0.isEndOfNode }
            let descriptors = leave(left)
            await expectStart { $0.isShortage || ($0.isEndOfNode && left > 4) }
            for descriptor in descriptors { close(descriptor) }
            await expectStart { $0.isEndOfNode }
        }
    }

    @Test("gets no proxy either", .exitTest, arguments: 0...4)
    func proxy(_ left: Int) async {
        await #expect(processExitsWith: .success) { [left] in
            leave(left)
            do throws(LocalBrokerError) {
                _ = try await FaultProxy.start(toPort: 5672)
                exit(1)
            } catch {
                if !error.isShortage { fail("\(error)") }
            }
        }
    }
}

/// Has no more than so many descriptors left to open: returns those that were opened for it.
@discardableResult
private func leave(_ count: Int) -> [CInt] {
    var limit = rlimit(rlim_cur: 128, rlim_max: 0)
    var before = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
    limit.rlim_max = before.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    var opened: [CInt] = []
    while true {
        let descriptor = fcntl(1, F_DUPFD_CLOEXEC, 0)
        guard descriptor >= 0 else { break }
        opened.append(descriptor)
    }
    for _ in 0..<count { if let descriptor = opened.popLast() { close(descriptor) } }
    return opened
}

/// Starts one, and ends the process if that does not fail in the expected way.
private func expectStart(failsWith isExpected: (LocalBrokerError) -> Bool) async {
    do throws(LocalBrokerError) {
        let broker = try await LocalBroker.start()
        await broker.shutdown()
        fail("it was started")
    } catch {
        if !isExpected(error) { fail("\(error)") }
    }
}

private func fail(_ text: String) -> Never {
    FileHandle.standardError.write(Data("\(text)\n".utf8))
    exit(1)
}

extension LocalBrokerError {
    fileprivate var isEndOfNode: Bool { if case .startFailed = self { true } else { false } }

    fileprivate var isShortage: Bool {
        switch self {
        case .cannotPrepare(_, let reason), .cannotSpawn(_, let reason):
            // Foundation's own words for the same.
            reason.contains("Too many open files") || reason.contains("Code=512")
        default: false
        }
    }
}
#endif
