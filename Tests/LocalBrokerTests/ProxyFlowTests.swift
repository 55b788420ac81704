import NIOCore
import Testing

@testable import LocalBroker

@Suite("One direction of a proxied connection")
struct ProxyFlowTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private let abc = ByteBuffer(string: "abc")

    /// A flow that has asked for its first read.
    private func reading(_ conditions: NetworkConditions = .healthy) -> ProxyFlow {
        var flow = ProxyFlow(conditions)
        #expect(flow.start(now: start) == [.read])
        return flow
    }

    @Test("What comes is written, one write at a time, and the end is told after the last of it")
    func forwards() {
        var flow = reading()
        #expect(flow.received(abc, now: start) == [.write(abc), .read])
        #expect(flow.received(abc, now: start) == [.read])
        #expect(flow.ended(now: start) == [])
        #expect(flow.wrote(now: start) == [.write(abc)])
        #expect(!flow.isFinished)
        #expect(flow.wrote(now: start) == [.finish])
        #expect(flow.isFinished)
        #expect(flow.wrote(now: start) == [])
    }

    @Test("What the receiver does not take stops the reading, at a megabyte")
    func bounded() {
        var flow = reading()
        let large = ByteBuffer(repeating: 1, count: 1 << 18)
        #expect(flow.received(large, now: start) == [.write(large), .read])
        for _ in 0..<3 { #expect(flow.received(large, now: start) == [.read]) }
        #expect(flow.received(large, now: start) == [])
        #expect(flow.wrote(now: start) == [.write(large), .read])
    }

    @Test("Stalled, nothing is read or written; afterwards it goes on where it was")
    func stalled() {
        var flow = reading()
        #expect(flow.received(abc, now: start) == [.write(abc), .read])
        #expect(flow.change(to: .stalled, now: start) == [])
        #expect(flow.wrote(now: start) == [])
        #expect(flow.received(abc, now: start) == [])
        #expect(flow.ended(now: start) == [])
        #expect(flow.change(to: .healthy, now: start) == [.write(abc)])
        #expect(flow.wrote(now: start) == [.finish])
    }

    @Test("Half-open, everything is read and lost, the end as well; then it cannot be healed")
    func halfOpen() {
        var flow = reading()
        #expect(flow.change(to: .halfOpen, now: start) == [])
        #expect(flow.received(abc, now: start) == [.read])
        #expect(flow.ended(now: start) == [])
        #expect(flow.change(to: .healthy, now: start) == [.breakUp])
    }

    @Test("Half-open while nothing came, it can be healed")
    func halfOpenInSilence() {
        var flow = reading()
        #expect(flow.change(to: .halfOpen, now: start) == [])
        #expect(flow.change(to: .healthy, now: start) == [])
        #expect(flow.received(abc, now: start) == [.write(abc), .read])
    }

    @Test("With a delay everything comes that much later, in order, the end included")
    func delayed() {
        var flow = reading(.delayed(by: .milliseconds(100)))
        let due = start + .milliseconds(100)
        #expect(flow.received(abc, now: start) == [.wake(at: due), .read])
        #expect(flow.ended(now: start + .milliseconds(50)) == [])
        #expect(flow.woke(now: due) == [.write(abc)])
        #expect(flow.wrote(now: due) == [.wake(at: due + .milliseconds(50))])
        #expect(flow.woke(now: due + .milliseconds(50)) == [.finish])
    }

    @Test("A delay that is lifted lets what was held go at once")
    func undelayed() {
        var flow = reading(.delayed(by: .seconds(100)))
        _ = flow.received(abc, now: start)
        #expect(flow.change(to: .healthy, now: start + .seconds(1)) == [.write(abc)])
    }

    @Test("A limit that is lifted or raised leaves no pause behind")
    func unlimited() {
        for next in [NetworkConditions.healthy, .limited(to: 1_000_000)] {
            var flow = reading(.limited(to: 1))
            #expect(flow.received(abc, now: start).contains(.write(ByteBuffer(string: "a"))))
            _ = flow.wrote(now: start)
            let actions = flow.change(to: next, now: start + .milliseconds(1))
            #expect(actions.contains(.write(ByteBuffer(string: "bc"))), "\(actions)")
        }
    }

    @Test("With a limit a second's bytes take a second, in fifty portions")
    func limited() {
        var flow = reading(.limited(to: 5_000))
        var now = start
        var written = 0
        var actions = flow.received(ByteBuffer(repeating: 1, count: 5_000), now: now)
        while written < 5_000 {
            for action in actions {
                switch action {
                case .write(let bytes):
                    #expect(bytes.readableBytes == 100)
                    written += bytes.readableBytes
                    actions = flow.wrote(now: now)
                case .wake(let time):
                    now = time
                    actions = flow.woke(now: now)
                default: break
                }
            }
        }
        #expect(now - start == .milliseconds(980))
    }
}
