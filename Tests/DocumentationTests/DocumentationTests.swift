import Foundation
import Testing

@Suite("The documentation")
struct DocumentationTests {
    static let documents =
        ["README.md"].map { Samples.root.appending(path: $0) }
        + Samples.files(in: ["docs", "Sources"], extension: "md")

    @Test("shows no Swift that the build does not compile", arguments: documents)
    func samples(document: URL) throws {
        let compiled = try Samples.files(in: ["Snippets", "Tests/DocumentationTests"], extension: "swift")
            .flatMap { Samples.regions(of: try String(contentsOf: $0, encoding: .utf8)) }
        let text = try String(contentsOf: document, encoding: .utf8)
        for block in Samples.blocks(of: "swift", in: text) {
            #expect(compiled.contains(block), "\(document.lastPathComponent) shows code that is no region of a snippet")
        }
    }

    @Test("refers to snippets and regions of them that exist", arguments: documents)
    func snippets(document: URL) throws {
        let text = try String(contentsOf: document, encoding: .utf8)
        for match in text.matches(of: /@Snippet\(path: "swift-supervision\/([^"]*)", slice: "([^"]*)"\)/) {
            let file = Samples.root.appending(path: "\(match.1).swift")
            let source = try String(contentsOf: file, encoding: .utf8)
            #expect(source.contains("// snippet.\(match.2)\n"), "\(match.1) has no region \(match.2)")
        }
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
