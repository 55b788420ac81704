import Foundation
import TestTurns
import Testing

@Suite("The documentation", .besidesThePool)
struct DocumentationTests {
    static let documents =
        ["README.md"].map { Samples.root.appending(path: $0) }
        + Samples.files(in: ["docs", "Sources"], extension: "md")

    @Test("shows no Swift that the build does not compile", arguments: documents)
    func samples(document: URL) throws {
        let compiled = try Samples.files(
            in: ["Snippets", "Tests/DocumentationTests", "Tests/SupervisionObserverTests"],
            extension: "swift"
        )
        .flatMap { Samples.regions(of: try String(contentsOf: $0, encoding: .utf8)) }
        let text = try String(contentsOf: document, encoding: .utf8)
        for block in Samples.blocks(of: "swift", in: text) {
            #expect(compiled.contains(block), "\(document.lastPathComponent) shows code that is no region of a snippet")
        }
    }

    @Test(
        "has its code in the text, so that it can be read anywhere, and not only where snippets are resolved",
        arguments: documents
    )
    func inlined(document: URL) throws {
        #expect(!(try String(contentsOf: document, encoding: .utf8)).contains("@Snippet"))
    }

    @Test("links to files that exist", arguments: documents)
    func links(document: URL) throws {
        let text = try String(contentsOf: document, encoding: .utf8)
        for match in text.matches(of: /\]\(([^):#]+)(#[^)]*)?\)/) {
            let target = document.deletingLastPathComponent().appending(path: String(match.1))
            #expect(FileManager.default.fileExists(atPath: target.path), "\(document.lastPathComponent): \(match.1)")
        }
    }
}
