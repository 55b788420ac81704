import Testing

@testable import Supervision

@Suite("The decisions of a supervisor")
struct SupervisorCoreTests {
    private func child(
        _ id: String,
        _ restart: Restart = .permanent,
        isSignificant: Bool = false,
        backoff: Backoff? = nil
    ) -> SupervisorCore.Settings {
        SupervisorCore.Settings(id: id, restart: restart, isSignificant: isSignificant, backoff: backoff)
    }

    @Test("children start in order, and stop in reverse")
    func order() {
        var world = CoreHarness(.oneForOne, "a", "b", "c")
        world.send(.boot)
        #expect(world.log == ["start a", "start b", "start c", "booted"])
        world.log = []
        world.send(.stop(.shutdown()))
        #expect(world.log == ["stop c", "stop b", "stop a", "finished"])
    }

    @Test("a child whose start fails at boot: those before it are stopped in reverse, no restart is tried")
    func bootFailure() {
        var world = CoreHarness(.oneForOne, "a", "b", "c", "d")
        world.starts["c"] = [.fails]
        world.send(.boot)
        #expect(world.log == ["start a", "start b", "start c", "stop b", "stop a", "finished"])
        guard case .shutdown(SupervisionError.failedToStart("top/c", .crashed)?) = world.finished else {
            Issue.record("unexpected reason \(String(describing: world.finished))")
            return
        }
    }

    @Test("one_for_one restarts only the child that failed")
    func oneForOne() {
        var world = CoreHarness(.oneForOne, "a", "b", "c")
        world.boot()
        world.exit("b")
        #expect(world.log == ["start b"])
    }

    @Test("one_for_all stops the others in reverse and starts all in order")
    func oneForAll() {
        var world = CoreHarness(.oneForAll, "a", "b", "c")
        world.boot()
        world.exit("b")
        #expect(world.log == ["stop c", "stop a", "start a", "start b", "start c"])
    }

    @Test("rest_for_one restarts the child and those after it")
    func restForOne() {
        var world = CoreHarness(.restForOne, "a", "b", "c", "d")
        world.boot()
        world.exit("b")
        #expect(world.log == ["stop d", "stop c", "start b", "start c", "start d"])
    }

    @Test(
        "restart type by exit reason",
        arguments: [
            (Restart.permanent, "normal", "running"), (.permanent, "shutdown", "running"),
            (.permanent, "killed", "running"), (.permanent, "crashed", "running"),
            (.transient, "normal", "stopped"), (.transient, "shutdown", "stopped"),
            (.transient, "killed", "running"), (.transient, "crashed", "running"),
            (.temporary, "normal", "unknown"), (.temporary, "shutdown", "unknown"),
            (.temporary, "killed", "unknown"), (.temporary, "crashed", "unknown"),
        ]
    )
    func restartTypes(restart: Restart, reason: String, expected: String) {
        var world = CoreHarness(.oneForOne, [child("a", restart)])
        world.boot()
        let reasons: [String: ExitReason] = [
            "normal": .normal, "shutdown": .shutdown(cause: TestFailure()), "killed": .killed,
            "crashed": .crashed(TestFailure()),
        ]
        world.exit("a", reasons[reason] ?? .noProcess)
        #expect(world.status("a") == expected)
    }

    @Test("a temporary sibling is stopped and forgotten by a group restart, never started again")
    func temporaryBystander() {
        var world = CoreHarness(.oneForAll, [child("a"), child("b", .temporary), child("c")])
        world.boot()
        world.exit("a")
        #expect(world.log == ["stop c", "stop b", "forget b", "start a", "start c"])
    }

    @Test("a transient child that ended normally is started again by a later group restart")
    func transientRevived() {
        var world = CoreHarness(.oneForAll, [child("a"), child("b", .transient)])
        world.boot()
        world.exit("b", .normal)
        #expect(world.status("b") == "stopped")
        world.exit("a")
        #expect(world.log == ["start a", "start b"])
    }

    @Test("exactly the intensity is allowed within the period; a restart that is exactly the period old still counts")
    func intensity() {
        var world = CoreHarness(.oneForOne, intensity: .init(2, within: .seconds(5)), "a", "b")
        world.boot()
        world.exit("a")
        world.now = .seconds(5)
        world.exit("b")
        #expect(world.log == ["start a", "start b"])
        world.exit("a")
        #expect(world.log == ["start a", "start b", "gave up on a", "stop b", "finished"])
        guard case .shutdown(SupervisionError.intensityExceeded("top", "top/a", .crashed)?) = world.finished else {
            Issue.record("unexpected reason \(String(describing: world.finished))")
            return
        }
    }

    @Test("restarts that are further apart than the period never end the supervisor")
    func spacedRestarts() {
        var world = CoreHarness(.oneForOne, intensity: .init(1, within: .seconds(5)), "a")
        world.boot()
        for _ in 1...1000 {
            world.now += .seconds(5) + .nanoseconds(1)
            world.exit("a")
        }
        #expect(world.finished == nil)
    }

    @Test("an intensity of zero ends the supervisor at the first restart")
    func intensityZero() {
        var world = CoreHarness(.oneForOne, intensity: .init(0, within: .seconds(5)), "a")
        world.boot()
        world.exit("a")
        #expect(world.log == ["gave up on a", "finished"])
    }

    @Test("a group restart costs one restart")
    func groupCost() {
        var world = CoreHarness(.oneForAll, intensity: .init(1, within: .seconds(5)), "a", "b", "c")
        world.boot()
        world.exit("a")
        #expect(world.finished == nil)
        world.exit("b")
        #expect(world.finished != nil)
    }

    @Test("every retry of a failed restart costs one")
    func retryCost() {
        var world = CoreHarness(.oneForOne, intensity: .init(3, within: .seconds(5)), "a", "b")
        world.boot()
        world.starts["a"] = [.fails, .fails, .fails, .fails]
        world.exit("a")
        #expect(world.log == ["start a", "start a", "start a", "gave up on a", "stop b", "finished"])
    }

    @Test("one_for_all: when a sibling's start fails, the retry begins at the first child again")
    func oneForAllSiblingFails() {
        var world = CoreHarness(.oneForAll, "a", "b", "c")
        world.boot()
        world.starts["b"] = [.fails]
        world.exit("c")
        #expect(world.log == ["stop b", "stop a", "start a", "start b", "stop a", "start a", "start b", "start c"])
    }

    @Test("rest_for_one: when a sibling's start fails, the retry begins at that sibling")
    func restForOneSiblingFails() {
        var world = CoreHarness(.restForOne, "a", "b", "c", "d")
        world.boot()
        world.starts["c"] = [.fails]
        world.exit("b")
        #expect(world.log == ["stop d", "stop c", "start b", "start c", "start c", "start d"])
    }

    @Test("a sibling that fails while a restart is under way is stopped with the group: its exit counts nothing")
    func exitDuringRestart() {
        var world = CoreHarness(.oneForAll, intensity: .init(1, within: .seconds(5)), "a", "b", "c")
        world.boot()
        world.slowToStop = ["c"]
        world.exit("a")
        world.exit("b")
        #expect(world.status("b") == "down")
        world.slowToStop = []
        world.exit("c", .shutdown())
        #expect(world.log == ["stop c", "start a", "start b", "start c"])
        #expect(world.finished == nil)
    }

    @Test("a child that fails while another is starting waits for its turn")
    func exitDuringStart() {
        var world = CoreHarness(.oneForOne, "a", "b")
        world.boot()
        world.starts["a"] = [.hangs]
        world.exit("a")
        world.exit("b")
        #expect(world.log == ["start a"])
        world.started("a")
        #expect(world.log == ["start a", "start b"])
    }

    @Test("a shutdown overtakes a start that hangs")
    func shutdownOvertakes() {
        var world = CoreHarness(.oneForOne, "a", "b")
        world.boot()
        world.starts["b"] = [.hangs]
        world.exit("b")
        world.send(.stop(.shutdown()))
        #expect(world.log == ["start b", "stop b", "stop a", "finished"])
    }

    @Test("a kill reaches all children at once, also those that are being stopped")
    func kill() {
        var world = CoreHarness(.oneForOne, "a", "b", "c")
        world.boot()
        world.slowToStop = ["c"]
        world.send(.stop(.shutdown()))
        world.send(.kill)
        #expect(world.log == ["stop c", "kill a", "kill b", "kill c", "finished"])
        guard case .killed = world.finished else {
            Issue.record("unexpected reason")
            return
        }
    }

    @Test("an event of a dead generation is dropped")
    func fence() {
        var world = CoreHarness(.oneForOne, "a")
        world.boot()
        let old = world.live["a"]!
        world.exit("a")
        world.log = []
        world.send(.exited(old.slot, generation: old.generation, .killed))
        world.send(.startFailed(old.slot, generation: old.generation, .killed))
        #expect(world.log == [])
        #expect(world.status("a") == "running")
    }

    @Test("any_significant: the first significant child that ends by itself ends the supervisor")
    func anySignificant() {
        let significant = child("a", .transient, isSignificant: true)
        var world = CoreHarness(.oneForOne, autoShutdown: .anySignificant, [significant, child("b")])
        world.boot()
        world.exit("a")
        #expect(world.log == ["start a"])
        world.exit("a", .normal)
        #expect(world.log == ["start a", "stop b", "finished"])
    }

    @Test("all_significant: only the last significant child ends the supervisor")
    func allSignificant() {
        let first = child("a", .temporary, isSignificant: true)
        let second = child("b", .transient, isSignificant: true)
        var world = CoreHarness(.oneForOne, autoShutdown: .allSignificant, [first, second, child("c")])
        world.boot()
        world.exit("a")
        #expect(world.finished == nil)
        world.exit("b", .shutdown())
        #expect(world.log == ["forget a", "stop c", "finished"])
    }

    @Test("administration: start, terminate, restart, delete, with OTP's errors")
    func administration() {
        var world = CoreHarness(.oneForOne, "a")
        world.boot()
        world.send(.request(1, .startChild(child("b"))))
        world.send(.request(2, .startChild(child("b"))))
        world.send(.request(3, .deleteChild(id: "b")))
        world.send(.request(4, .restartChild(id: "b")))
        world.send(.request(5, .terminateChild(id: "b")))
        world.send(.request(6, .terminateChild(id: "b")))
        world.send(.request(7, .startChild(child("b"))))
        world.send(.request(8, .restartChild(id: "b")))
        world.send(.request(9, .terminateChild(id: "b")))
        world.send(.request(10, .deleteChild(id: "b")))
        world.send(.request(11, .deleteChild(id: "b")))
        #expect(
            world.log == [
                "start b", "reply started(1)", "reply alreadyStarted(1)", "reply running", "reply running", "stop b",
                "reply done", "reply done", "reply alreadyPresent", "start b", "reply started(1)", "stop b",
                "reply done",
                "forget b", "reply done", "reply notFound",
            ]
        )
    }

    @Test("administration: a failing start leaves no new specification, and a known one stopped")
    func administrationFailures() {
        var world = CoreHarness(.oneForOne, "a")
        world.boot()
        world.starts["b"] = [.fails]
        world.send(.request(1, .startChild(child("b"))))
        #expect(world.status("b") == "unknown")
        world.send(.request(2, .terminateChild(id: "a")))
        world.starts["a"] = [.fails]
        world.send(.request(3, .restartChild(id: "a")))
        #expect(world.status("a") == "stopped")
        #expect(world.finished == nil)
    }

    @Test("a child that cannot be restarted can be terminated while it waits for its retry")
    func terminateRestarting() {
        let settings = child("a", backoff: Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0))
        var world = CoreHarness(.oneForOne, [settings])
        world.boot()
        world.exit("a")
        world.send(.request(1, .restartChild(id: "a")))
        world.send(.request(2, .deleteChild(id: "a")))
        world.send(.request(3, .terminateChild(id: "a")))
        #expect(world.log == ["delay a", "reply restarting", "reply restarting", "reply done"])
        #expect(world.status("a") == "stopped")
        world.advance(by: .seconds(2))
        #expect(world.status("a") == "stopped")
    }

    @Test("requests that wait when the supervisor ends are answered")
    func requestsDropped() {
        var world = CoreHarness(.oneForOne, "a")
        world.boot()
        world.starts["b"] = [.hangs]
        world.send(.request(1, .startChild(child("b"))))
        world.send(.request(2, .startChild(child("c"))))
        world.send(.stop(.shutdown()))
        #expect(
            world.log == ["start b", "reply noProcess", "reply noProcess", "stop b", "stop a", "finished"]
        )
    }

    @Test("many children that fail at once are restarted one after the other, without recursion")
    func manyAtOnce() {
        let count = 10_000
        var world = CoreHarness(
            .oneForOne,
            intensity: .init(count, within: .seconds(5)),
            (0..<count).map { child("\($0)") }
        )
        world.boot()
        world.starts["0"] = [.hangs]
        for index in 0..<count { world.exit("\(index)") }
        world.started("0")
        #expect(world.log.count == count)
        #expect(world.core.activity == .idle)
    }
}
