import ConcurrencyPrimitives
import Testing

@Suite("A value that comes and goes with incarnations", .timeLimit(.minutes(5)))
struct CurrentTests {
    private final class Incarnation: Sendable {}

    private let forEver = ContinuousClock.now + .seconds(3600)

    private func wait(
        _ current: Current<Incarnation, Int, String>,
        otherThan old: Incarnation? = nil
    ) async -> Task<Incarnation, any Error> {
        let waiting = current.waiting
        let task = Task { try await current.value(otherThan: old, before: forEver) }
        while current.waiting == waiting { await Task.yield() }
        return task
    }

    @Test("is had at once while there is one, and waited for while there is none")
    func comesAndGoes() async throws {
        let current = Current<Incarnation, Int, String>(limit: 10)
        let first = Incarnation()
        let waiting = await wait(current)
        current.set(first)
        #expect(try await waiting.value === first)
        #expect(try await current.value(before: .now) === first)
        let next = await wait(current, otherThan: first)
        current.clear(first)
        #expect(current.value == nil)
        let second = Incarnation()
        current.set(second)
        // An end that is told late takes nothing of the next one.
        current.clear(first)
        #expect(current.value === second)
        #expect(try await next.value === second)
    }

    @Test("is not waited for when nobody is going to make one, until somebody is")
    func ended() async throws {
        let current = Current<Incarnation, Int, String>(limit: 10)
        let waiting = await wait(current)
        current.end(because: "it gave up")
        for task in [waiting, Task { try await current.value(before: forEver) }] {
            await #expect {
                try await task.value
            } throws: { error in
                guard case Current<Incarnation, Int, String>.Absence.ended("it gave up") = error else { return false }
                return true
            }
        }
        #expect(current.begin(from: 1))
        let again = await wait(current)
        current.set(Incarnation())
        _ = try await again.value
    }

    @Test("a wait ends at its deadline, when its task is cancelled, and at once when too many wait")
    func absent() async throws {
        let current = Current<Incarnation, Int, String>(limit: 1)
        await #expect {
            _ = try await current.value(before: .now + .milliseconds(5))
        } throws: { error in
            guard case Current<Incarnation, Int, String>.Absence.deadline = error else { return false }
            return true
        }
        let waiting = await wait(current)
        await #expect {
            _ = try await current.value(before: forEver)
        } throws: { error in
            guard case Current<Incarnation, Int, String>.Absence.overloaded(limit: 1) = error else { return false }
            return true
        }
        waiting.cancel()
        await #expect {
            _ = try await waiting.value
        } throws: { error in
            guard case Current<Incarnation, Int, String>.Absence.cancelled = error else { return false }
            return true
        }
    }

    @Test("the end of a source that others have followed is no end, and one that is alive is not replaced")
    func sources() async throws {
        let current = Current<Incarnation, Int, String>(limit: 1)
        #expect(current.begin(from: 1))
        #expect(!current.begin(from: 1))
        #expect(current.begin(from: 2))
        current.end(because: "late", from: 1)
        let waiting = await wait(current)
        let first = Incarnation()
        #expect(current.claim(first))
        #expect(!current.claim(Incarnation()))
        #expect(try await waiting.value === first)
        current.whileAbsent(endedBecause: "not absent")
        current.clear(first)
        let next = await wait(current)
        current.end(because: "over", from: 2)
        await #expect(throws: Current<Incarnation, Int, String>.Absence.self) { try await next.value }
    }

    @Test(
        "whatever comes at the same moment, each wait ends once: with a value, the end, its deadline or its cancellation"
    )
    func races() async {
        for _ in 0..<50 {
            let current = Current<Incarnation, Int, String>(limit: 30)
            let ended = Count()
            await withTaskGroup { group in
                for index in 0..<20 {
                    group.addTask {
                        let deadline = ContinuousClock.now + (index % 5 == 0 ? .microseconds(100) : .seconds(3600))
                        let task = Task { try await current.value(before: deadline) }
                        if index % 3 == 0 { task.cancel() }
                        _ = await task.result
                        ended.increment()
                    }
                }
                group.addTask {
                    for _ in 0..<10 {
                        let next = Incarnation()
                        current.set(next)
                        await Task.yield()
                        current.clear(next)
                    }
                    current.end(because: "it gave up")
                }
            }
            #expect(ended.value == 20)
            #expect(current.waiting == 0)
        }
    }
}
