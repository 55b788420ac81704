import Supervision
import SupervisionTesting
import Testing

@Suite("The matrix", .timeLimit(.minutes(2)))
struct MatrixTests {
    /// Thirty processes: three areas, backoffs and cooldowns, workers with and without `run()`.
    private static func shop(_ clock: ManualClock) -> Supervisor {
        Supervisor("shop", strategy: .restForOne, logger: quiet, clock: clock) {
            Child("configuration") { _ in Keeper() }
            Supervisor("storage", strategy: .oneForAll) {
                Child("journal", options: ChildOptions(backoff: Backoff(minimum: .seconds(1), maximum: .seconds(30)))) {
                    Waiter($0)
                }
                for index in 0..<7 { Child("shard-\(index)") { _ in Keeper() } }
            }
            Supervisor("feeds", intensity: .init(2, within: .seconds(60)), whenExceeded: .cooldown(.seconds(300))) {
                for index in 0..<8 { Child("feed-\(index)") { Waiter($0, asked: index % 2 == 0) } }
            }
            Supervisor("front") {
                for index in 0..<4 {
                    Supervisor("pool-\(index)", strategy: .restForOne) {
                        Child("listener") { Waiter($0) }
                    }
                }
                Child("report", restart: .transient) { Waiter($0) }
            }
        }
    }

    @Test("of thirty processes takes seconds, whatever their timeouts are")
    func thirty() async throws {
        let chaos = Chaos(
            invariants: [
                Chaos.Invariant("every shard answers") { scene in
                    for index in 0..<7 {
                        let shard = try scene.tree.supervisor.child("storage", "shard-\(index)", as: Keeper.self)
                        _ = try await shard.call { $0.get("x") }
                    }
                }
            ]
        ) { clock in
            Self.shop(clock)
        }
        let report = try await chaos.matrix()
        #expect(report.processes.count == 30)
        #expect(report.rows.count == 30 * Chaos.Way.all.count - 3)
        print("matrix of 30 processes: \(report.rows.count) kills in \(report.duration)")
    }

    @Test("is a table, in text and in Markdown")
    func report() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", strategy: .oneForAll, logger: quiet, clock: clock) {
                Child("a") { _ in Keeper() }
                Child("b", restart: .temporary) { Waiter($0) }
            }
        }
        let report = try await chaos.matrix([.kill, .hang])
        let lines = report.markdown.split(separator: "\n")
        #expect(lines[0].hasPrefix("6 kills in a tree of 3 processes, no fault, "))
        #expect(lines[1] == "| process | kill | hang |")
        #expect(lines[3].hasPrefix("| `app` | the tree ends<br>"))
        #expect(lines[4].hasPrefix("| `app/a` | app/a; gone: app/b<br>"), "\(lines[4])")
        #expect(lines[5].hasPrefix("| `app/b` | gone: it alone<br>"))
        #expect(report.description.contains("  hang app/a  app/a; gone: app/b  ("), "\(report)")
        let hang = try #require(report.rows.first { $0.kills == [.init("app/a", .hang)] })
        #expect(hang.turned == .seconds(1))
    }

    @Test("names a fault by the call that plays it again")
    func failureReport() async throws {
        let chaos = Chaos(invariants: [
            Chaos.Invariant("b is never touched") { scene in
                try Chaos.require(!scene.effects.restarted.contains("app/b"), "it was")
            }
        ]) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("a") { _ in Keeper() }
                Child("b") { _ in Keeper() }
            }
        }
        let failure = try #require(try await failure { try await chaos.matrix([.kill]) })
        #expect(
            failure.description == """
                1 fault in 3 steps:
                1. broken: b is never touched (it was)
                   try await chaos.replay("kill app/b")
                """
        )
        #expect(failure.report.markdown.contains("BROKEN: b is never touched"))
    }

    @Test("tells of a tree that does not start")
    func notStarted() async throws {
        struct Broken: Error {}
        let count = Shared(0)
        let chaos = Chaos {
            Supervisor("app", logger: quiet) {
                Child("a") { _ in
                    let tries = count.with { count in
                        count += 1
                        return count
                    }
                    if tries > 1 { throw Broken() }
                    return Keeper()
                }
            }
        }
        let failure = try #require(try await failure { try await chaos.replay("kill app/a") })
        #expect("\(failure)".contains("the tree did not start"))
    }

    @Test("can be limited to some processes")
    func filter() async throws {
        let chaos = Chaos { clock in Self.shop(clock) }
        let report = try await chaos.matrix([.crash], only: { $0.path.hasPrefix("shop/feeds/") })
        #expect(report.rows.count == 8)
        #expect(report.rows.allSatisfy { $0.outcome == "it alone" })
    }
}
