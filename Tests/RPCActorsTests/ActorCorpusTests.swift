import Foundation
import Testing

@testable import RPCActors

@Suite(
    "What peers may send to actors: the inputs that fuzzing begins with, and those it found",
    .timeLimit(.minutes(2))
)
struct ActorCorpusTests {
    private static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fuzz/ActorCorpus")

    @Test("is answered, or refused, and so is what is a few bytes away from it")
    func corpus() async throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path).sorted()
        #expect(names.count >= 12)
        #expect(await ActorCheck.methods.value.count == 3)
        var random = SystemRandomNumberGenerator()
        for name in names {
            let input = try [UInt8](Data(contentsOf: Self.folder.appendingPathComponent(name)))
            await #expect(throws: Never.self, "\(name)") { try await ActorCheck.check(input) }
            for _ in 0..<100 {
                var mutated = input
                for _ in 0..<Int.random(in: 1...3) {
                    guard let index = mutated.indices.randomElement(using: &random) else { break }
                    mutated[index] = .random(in: 0...255, using: &random)
                }
                await #expect(throws: Never.self, "\(mutated)") { try await ActorCheck.check(mutated) }
                // Other tests wait for answers of brokers meanwhile.
                await Task.yield()
            }
        }
    }
}
