/* An MPI program: rank 0 prints residuals and writes a file; it ends in the way that its argument says. */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
    int rank, size, sum;
    const char *way = arguments[1];
    MPI_Init(&count, &arguments);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Reduce(&rank, &sum, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        double residual = 1;
        for (int step = 1; step <= 3; step++) printf("step %d res = %.4e\n", step, residual /= 10);
        printf("sum %d of %d ranks\n", sum, size);
        fflush(stdout);
        FILE *file = fopen("field.dat", "w");
        fprintf(file, "%.4e\n", residual);
        fclose(file);
        if (!strcmp(way, "fails")) MPI_Abort(MPI_COMM_WORLD, 3);
        if (!strcmp(way, "killed")) kill(getpid(), SIGKILL);
        if (!strcmp(way, "interrupted")) kill(atoi(arguments[2]), SIGINT);
    }
    if (!strcmp(way, "interrupted"))
        for (;;) pause();
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
