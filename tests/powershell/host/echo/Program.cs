// What Invoke-FarmVMCommand runs in its tests. C# 5, which the compiler of the .NET Framework compiles.
using System;
using System.Diagnostics;
using System.Text;
using System.Threading;

static class Program
{
    static int Main(string[] args)
    {
        switch (args.Length > 0 ? args[0] : "")
        {
            case "args":
                for (int i = 1; i < args.Length; i++)
                {
                    Console.Out.WriteLine(Convert.ToBase64String(Encoding.UTF8.GetBytes(args[i])));
                }
                return 0;
            case "exit":
                return int.Parse(args[1]);
            case "sleep":
                Thread.Sleep(int.Parse(args[1]));
                return 0;
            case "flood":
                string line = new string('x', 999);
                for (int i = 0; i < int.Parse(args[1]); i++)
                {
                    Console.Out.WriteLine(line);
                    Console.Error.WriteLine(line);
                }
                return 3;
            case "leave":
                StartSleeper(args[1]);
                return 0;
            case "leavehang":
                StartSleeper(args[1]);
                Thread.Sleep(int.Parse(args[1]));
                return 0;
        }
        Console.Out.WriteLine("hello");
        Console.Error.WriteLine("err");
        return 0;
    }

    // A child that keeps the pipes of this process.
    static void StartSleeper(string milliseconds)
    {
        string program = Process.GetCurrentProcess().MainModule.FileName;
        Process.Start(new ProcessStartInfo(program, "sleep " + milliseconds) { UseShellExecute = false });
        Console.Out.WriteLine("left");
        Console.Out.Flush();
    }
}
