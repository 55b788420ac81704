public import Distributed
import Synchronization

/// Which methods of an actor type can be called from outside: those of a protocol that it conforms to.
///
///     Export(BankTeller.self, as: $Teller<RPCActorSystem>.self, errors: Insufficient.self)
///
/// Nothing else of the type can be called, whatever a peer sends: the runtime itself runs any method on any actor that it is told to.
/// Several exports of the same type add up. A protocol that inherits from another exports its own methods only; export the other one too.
///
/// A client in another language names a method as `Teller.transfer(_:note:)`. For that the service must know which method it is: list it.
///
///     Export(BankTeller.self, as: $Teller<RPCActorSystem>.self, methods: [{ _ = try await $0.transfer(Transfer(), note: nil) }])
///
/// Each closure calls one method, with any arguments; the call gets no further than to its name.
public struct Export: Sendable {
    let type: ObjectIdentifier
    let typeName: String
    let interface: ExportedInterface
    let errors: [any (Codable & Error).Type]
    /// Finds out what a method is called on the wire.
    let probes: [@Sendable (RPCActorSystem) async -> Void]

    /// Exports the methods of a protocol.
    ///
    /// - Parameters:
    ///   - type: The actor type.
    ///   - stub: What `@Resolvable` made of the protocol.
    ///   - errors: What the methods throw, so that callers in this process get the same type back when they are called.
    ///   - methods: Those that are called by their names, from other languages.
    public init<Act: DistributedActor, Stub: DistributedActor & _DistributedActorStub>(
        _ type: Act.Type,
        as stub: Stub.Type,
        errors: any (Codable & Error).Type...,
        methods: [@Sendable (Stub) async throws -> Void] = []
    ) where Act.ActorSystem == RPCActorSystem, Stub.ActorSystem == RPCActorSystem {
        self.type = ObjectIdentifier(type)
        typeName = _typeName(type, qualified: true)
        interface = ExportedInterface(stub: stub)
        self.errors = errors
        probes = methods.map { method in
            { system in
                guard
                    let probe = try? Stub.resolve(id: ActorAddress(destination: "probe", name: "probe"), using: system)
                else {
                    return
                }
                try? await method(probe)
            }
        }
    }

    /// Exports the methods that the type itself declares, for callers that import it.
    public init<Act: DistributedActor>(_ type: Act.Type, errors: any (Codable & Error).Type...)
    where Act.ActorSystem == RPCActorSystem {
        self.type = ObjectIdentifier(type)
        typeName = _typeName(type, qualified: true)
        interface = ExportedInterface(concrete: type)
        self.errors = errors
        probes = []
    }
}

/// Lists exports.
@resultBuilder
public enum ExportsBuilder {
    /// One export.
    public static func buildExpression(_ export: Export) -> [Export] { [export] }
    /// One after another.
    public static func buildBlock(_ parts: [Export]...) -> [Export] { parts.flatMap { $0 } }
    /// An `if` without `else`.
    public static func buildOptional(_ part: [Export]?) -> [Export] { part ?? [] }
    /// An `if`.
    public static func buildEither(first part: [Export]) -> [Export] { part }
    /// Its `else`.
    public static func buildEither(second part: [Export]) -> [Export] { part }
    /// A `for` loop.
    public static func buildArray(_ parts: [[Export]]) -> [Export] { parts.flatMap { $0 } }
}

/// The runtime's table of distributed methods: compares names, and looks no type up. It is what `executeDistributedTarget` asks in the
/// end; the standard library exports it, and a toolchain without it does not link.
@_silgen_name("swift_findAccessibleFunction")
private func findAccessibleFunction(_ name: UnsafePointer<UInt8>, _ length: Int) -> UnsafeRawPointer?

/// The methods of one class, as the runtime knows them: of a stub or of an actor type.
struct ExportedInterface: Sendable {
    /// How the identifiers of its methods begin: module and class, complete.
    let prefix: String
    /// What the runtime must be told of the class that a method is called through: the stub, where there is one.
    let substitutions: [any Any.Type]
    /// Whether it is known what it is: else nothing of it can be called.
    let isUsable: Bool
    /// Whether an actor answers these methods. Where it does not, calling one would end the process.
    let accepts: @Sendable (any DistributedActor) -> Bool

    init(stub: any DistributedActor.Type) {
        prefix = Self.prefix(of: stub) ?? ""
        substitutions = [stub]
        let existential = Self.protocolOfStub(stub)
        isUsable = existential != nil && !prefix.isEmpty
        accepts = { actor in existential.map { Self.conforms(actor, to: $0) } ?? false }
    }

    init(concrete type: any DistributedActor.Type) {
        prefix = Self.prefix(of: type) ?? ""
        substitutions = []
        isUsable = !prefix.isEmpty
        accepts = { Swift.type(of: $0) == type }
    }

    /// `$s`, and the class without its generic arguments.
    private static func prefix(of type: any Any.Type) -> String? {
        guard let name = _mangledTypeName(type) else { return nil }
        // A bound generic class is the class, then `y`, its arguments and `G`. The last "Cy" is where the arguments begin, since the
        // only argument is the actor system, whose name has none.
        guard name.hasSuffix("G") else { return name.hasSuffix("C") ? "$s" + name : nil }
        let characters = Array(name.utf8)
        for index in characters.indices.dropLast().reversed()
        where characters[index] == UInt8(ascii: "C") && characters[index + 1] == UInt8(ascii: "y") {
            return "$s" + String(decoding: characters[...index], as: UTF8.self)
        }
        return nil
    }

    /// The protocol `Module.Name` of the stub `Module.$Name`: of this program's own types, never of a name from outside.
    private static func protocolOfStub(_ stub: any Any.Type) -> (any Any.Type)? {
        let name = _typeName(stub, qualified: true).prefix { $0 != "<" }
        let parts = name.split(separator: ".")
        guard parts.count == 2, parts[1].hasPrefix("$") else { return nil }
        let (module, plain) = (parts[0], parts[1].dropFirst())
        return _typeByName("\(module.utf8.count)\(module)\(plain.utf8.count)\(plain)_p")
    }

    private static func conforms(_ actor: any DistributedActor, to existential: any Any.Type) -> Bool {
        func check<Existential>(_ type: Existential.Type) -> Bool { (actor as Any) is Existential }
        return check(existential)
    }

    /// Whether an identifier is a method of this class that takes no types.
    func contains(_ identifier: String) -> Bool {
        !prefix.isEmpty && identifier.utf8.count <= Self.maximumIdentifierBytes && identifier.hasPrefix(prefix)
            // `async throws`, which all distributed methods are from outside; a generic signature would stand before the `F`, and the
            // runtime misreads memory where a protocol's method has one.
            && identifier.hasSuffix("YaKFTE")
            && identifier.utf8.allSatisfy { Self.isOfIdentifiers($0) }
            && identifier.utf8.dropFirst(prefix.utf8.count).first.map { (0x30...0x39).contains($0) } == true
            && Self.isInThisProgram(identifier)
    }

    private static let maximumIdentifierBytes = 2000

    /// Whether this program has a distributed method of this identifier. Otherwise the runtime would find that out only when it has looked
    /// up the types that the identifier names: whatever types a peer chooses.
    private static func isInThisProgram(_ identifier: String) -> Bool {
        var identifier = identifier
        return identifier.withUTF8 { bytes in
            bytes.baseAddress.map { findAccessibleFunction($0, bytes.count) != nil } ?? false
        }
    }

    private static func isOfIdentifiers(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"), UInt8(ascii: "$"): true
        default: false
        }
    }
}

/// Decides about every request before the runtime sees it.
struct Exports: Sendable {
    enum Decision: Sendable {
        case run(identifier: String, substitutions: [any Any.Type])
        /// Nothing of that name, or nothing that may be called.
        case unknown
    }

    private var interfaces: [ObjectIdentifier: [ExportedInterface]] = [:]
    private var typeNames: [ObjectIdentifier: String] = [:]
    /// What is called by its name: the identifiers, of which there may be several where methods are overloaded.
    private var identifiers: [String: Set<String>] = [:]

    init(_ exports: [Export]) {
        for export in exports {
            interfaces[export.type, default: []].append(export.interface)
            typeNames[export.type] = export.typeName
        }
    }

    /// A method was found out to be called so.
    mutating func learn(name: String, identifier: String) {
        identifiers[name, default: []].insert(identifier)
    }

    /// Whether methods of this name were listed.
    func knows(_ name: String) -> Bool { identifiers[name] != nil }

    /// What is run for a request.
    ///
    /// - Parameters:
    ///   - actor: The actor that it is for.
    ///   - name: What the request calls the method.
    ///   - target: Its identifier, if the request says one.
    func decide(for actor: any DistributedActor, name: String?, target: String?) -> Decision {
        let interfaces = interfaces[ObjectIdentifier(type(of: actor))] ?? []
        guard let target else { return byName(name, actor, interfaces, except: nil) }
        return run(target, actor, interfaces) ?? byName(name, actor, interfaces, except: target)
    }

    /// What is run instead of an identifier that turned out not to be there: another version of the contract has another one for the
    /// same name.
    func decideInstead(of target: String, for actor: any DistributedActor, name: String?) -> Decision {
        byName(name, actor, interfaces[ObjectIdentifier(type(of: actor))] ?? [], except: target)
    }

    private func byName(
        _ name: String?,
        _ actor: any DistributedActor,
        _ interfaces: [ExportedInterface],
        except target: String?
    ) -> Decision {
        let candidates = name.flatMap { identifiers[$0] } ?? []
        let found = candidates.compactMap { $0 == target ? nil : run($0, actor, interfaces) }
        // Of several it is not known which is meant.
        return found.count == 1 ? found[0] : .unknown
    }

    private func run(
        _ identifier: String,
        _ actor: any DistributedActor,
        _ interfaces: [ExportedInterface]
    ) -> Decision? {
        guard let interface = interfaces.first(where: { $0.contains(identifier) && $0.accepts(actor) }) else {
            return nil
        }
        return .run(identifier: identifier, substitutions: interface.substitutions)
    }
}

/// What a method is called on the wire: `Teller.transfer(_:note:)`, without module and `$`.
enum MethodName {
    static func of(_ target: RemoteCallTarget) -> String {
        // "Module.$Protocol.method(label:)", or with "<System>" behind a generic stub; the identifier itself where it cannot be read.
        let text = target.description
        guard let parenthesis = text.firstIndex(of: "(") else { return text }
        let path = text[..<parenthesis].split(separator: ".", omittingEmptySubsequences: false)
        guard path.count >= 3, let method = path.last else { return text }
        var type = path[path.count - 2]
        if type.hasPrefix("$") { type = type.dropFirst() }
        return "\(type.prefix { $0 != "<" }).\(method)\(text[parenthesis...])"
    }
}
