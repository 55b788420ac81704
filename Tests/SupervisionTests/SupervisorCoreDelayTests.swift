import Testing

@testable import Supervision

@Suite("The delays of a supervisor: backoff and cooldown")
struct SupervisorCoreDelayTests {
    private func child(_ id: String, _ restart: Restart = .permanent, backoff: Backoff? = nil)
        -> SupervisorCore.Settings
    {
        SupervisorCore.Settings(id: id, restart: restart, backoff: backoff)
    }

    @Test("backoff: the delay grows with each failure, is bounded, and starts anew after health")
    func backoff() {
        let backoff = Backoff(
            minimum: .seconds(1),
            maximum: .seconds(5),
            factor: 2,
            jitter: 0,
            resetAfter: .seconds(60)
        )
        let settings = child("a", backoff: backoff)
        var world = CoreHarness(.oneForOne, intensity: .init(100, within: .seconds(3600)), [settings])
        world.boot()
        var delays: [Duration] = []
        for _ in 1...5 {
            world.exit("a")
            #expect(world.status("a") == "restarting")
            delays.append((world.delays.values.first?.due ?? world.now) - world.now)
            world.advance(by: .seconds(5))
            #expect(world.status("a") == "running")
        }
        #expect(delays == [.seconds(1), .seconds(2), .seconds(4), .seconds(5), .seconds(5)])
        world.advance(by: .seconds(61))
        world.exit("a")
        #expect((world.delays.values.first?.due ?? world.now) - world.now == .seconds(1))
    }

    @Test("backoff with jitter never exceeds its maximum and is never negative")
    func jitter() {
        let backoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(5))
        for failures in 1...100 {
            for random in [0, 0.3, 0.999_999] {
                let delay = backoff.delay(afterFailures: failures, random: random)
                #expect(delay >= .zero)
                #expect(delay <= .seconds(5))
            }
        }
    }

    @Test("rest_for_one with backoff: the rest is stopped at once, and started after the delay")
    func backoffGroup() {
        let settings = child("a", backoff: Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0))
        var world = CoreHarness(.restForOne, [settings, child("b")])
        world.boot()
        world.exit("a")
        #expect(world.log == ["stop b", "delay a"])
        #expect(world.status("b") == "stopped")
        world.advance(by: .seconds(1))
        #expect(world.log == ["stop b", "delay a", "start a", "start b"])
    }

    @Test("cooldown: the supervisor stays, and tries again after the pause with the count reset")
    func cooldown() {
        var world = CoreHarness(
            .oneForOne,
            intensity: .init(1, within: .seconds(3600)),
            whenExceeded: .cooldown(.seconds(10)),
            [child("a"), child("b")]
        )
        world.boot()
        world.exit("a")
        world.exit("a")
        #expect(world.status("a") == "restarting")
        #expect(world.status("b") == "running")
        world.advance(by: .seconds(10))
        #expect(world.status("a") == "running")
        world.exit("a")
        #expect(world.status("a") == "running")
        #expect(world.finished == nil)
    }

    @Test("a shutdown while a restart is put off withdraws it")
    func shutdownDuringDelay() {
        let settings = child("a", backoff: Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0))
        var world = CoreHarness(.oneForOne, [settings, child("b")])
        world.boot()
        world.exit("a")
        world.send(.stop(.shutdown()))
        #expect(world.delays.isEmpty)
        #expect(world.log == ["delay a", "stop b", "finished"])
    }
}
