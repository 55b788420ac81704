/// How a node of a cluster is reached by the others: Erlang's distribution, on a port of 127.0.0.1 of its own, without an
/// epmd.
///
/// The port is in the node's name, so that nothing has to be asked for it. Who may join has the cookie, which is in a file
/// that only this user can read, and is made anew for each cluster.
struct Distribution: Sendable {
    let port: Int
    let cookie: String
    /// The node that the others join when they start for the first time; itself, for that one.
    let founder: Int

    var nodeName: String { Self.nodeName(port) }

    static func nodeName(_ port: Int) -> String { "rabbit-\(port)@localhost" }

    /// Lines of `rabbitmq.conf`.
    var configuration: String {
        let names = founder == port ? [port] : [founder, port]
        let nodes = names.enumerated().map { index, port in
            "cluster_formation.classic_config.nodes.\(index + 1) = \(Self.nodeName(port))"
        }
        return (["cluster_formation.peer_discovery_backend = classic_config"] + nodes).joined(separator: "\n")
    }

    /// What the node's Erlang is told. RabbitMQ asks OTP's own `erl_epmd` for its port while it boots, whatever module replaces it:
    /// `-erl_epmd_port` is the answer. ``start(folder:)`` starts the distribution, since the module that replaces epmd must be there
    /// before.
    var arguments: [String] {
        [
            "-erl_epmd_port", "\(port)",
            "-kernel", "inet_dist_listen_min", "\(port)", "inet_dist_listen_max", "\(port)",
        ]
    }

    /// What every Erlang that the node starts is told too. Since RabbitMQ 4.0, a node asks the others whether they are there through a
    /// second Erlang of its own, which has to find them without an epmd as well.
    static func flags(folder: String) -> String {
        "-start_epmd false -epmd_module \(module) -pa '\(folder)' -kernel inet_dist_use_interface {127,0,0,1}"
    }

    static let module = "local_broker_epmd"

    /// What the node evaluates before anything else. The compiled module stays in the folder, for ``flags(folder:)``.
    func start(folder: String) -> String {
        """
        {ok, E} = compile:file("\(folder)/\(Self.module)", [{outdir, "\(folder)"}]), \
        {module, E} = code:load_abs("\(folder)/\(Self.module)"), \
        {ok, _} = net_kernel:start(['\(nodeName)', shortnames]).
        """
    }

    /// In place of OTP's `erl_epmd`, which asks a daemon for the port of a name.
    static let source = #"""
        -module(local_broker_epmd).
        -export([start_link/0, register_node/2, register_node/3, port_please/2, port_please/3, listen_port_please/2,
                 address_please/3, names/0, names/1]).

        start_link() -> ignore.

        %% The number tells one incarnation of a node from another.
        register_node(Name, Port) -> register_node(Name, Port, inet).
        register_node(_, _, _) -> {ok, 4 + erlang:system_time(second) rem 1000000000}.

        %% 6 is the version of the distribution protocol.
        port_please(Name, Host) -> port_please(Name, Host, infinity).
        port_please(Name, _, _) ->
            case port(Name) of
                none -> noport;
                Port -> {port, Port, 6}
            end.

        listen_port_please(Name, _) -> {ok, port(Name)}.

        address_please(_, _, _) -> {ok, {127, 0, 0, 1}}.

        names() -> names(localhost).
        names(_) -> {ok, []}.

        %% The name is "rabbit-25001" or "rabbit-25001@localhost".
        port(Name) when is_atom(Name) -> port(atom_to_list(Name));
        port(Name) ->
            [Short | _] = string:split(Name, "@"),
            %% RabbitMQ also asks for nodes that it has made up, which are nowhere.
            try
                [_, Port] = string:split(Short, "-", trailing),
                list_to_integer(Port)
            catch
                error:_ -> none
            end.
        """#
}
