import Foundation
import Testing

@testable import AMQPPool

@Suite("The inputs that fuzzing begins with, and those it found")
struct CorpusTests {
    private static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fuzz/Corpus")

    @Test("are decoded, or refused, and so is what is a few bytes away from them")
    func corpus() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path).sorted()
        #expect(names.count >= 20)
        var random = SystemRandomNumberGenerator()
        for name in names {
            let input = try [UInt8](Data(contentsOf: Self.folder.appendingPathComponent(name)))
            #expect(throws: Never.self, "\(name)") { try CodecCheck.check(input) }
            for _ in 0..<100 {
                var mutated = input
                for _ in 0..<Int.random(in: 1...3) {
                    guard let index = mutated.indices.randomElement(using: &random) else { break }
                    mutated[index] = .random(in: 0...255, using: &random)
                }
                #expect(throws: Never.self, "\(mutated)") { try CodecCheck.check(mutated) }
            }
        }
    }
}
